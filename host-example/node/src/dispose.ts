/** The symbol that `using` looks for, where the engine does not have it yet. It comes before jco's code. */
if (!Symbol.dispose) Object.defineProperty(Symbol, "dispose", { value: Symbol("Symbol.dispose") });
