/** What makes the core modules of a component, from a table of their bytes: compiled once, however many instances there are. */
export function compiler(cores: Readonly<Record<string, Uint8Array<ArrayBuffer>>>): (name: string) => WebAssembly.Module {
  const compiled = new Map<string, WebAssembly.Module>();
  return (name) => {
    let module = compiled.get(name);
    if (!module) {
      const bytes = cores[name];
      if (!bytes) throw new Error(`the component has no core module ${name}; build the package anew`);
      compiled.set(name, (module = new WebAssembly.Module(bytes)));
    }
    return module;
  };
}
