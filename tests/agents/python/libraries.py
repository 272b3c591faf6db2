"""Agents as anybody would make them with these libraries: each works until it has an answer, and again, until it fails.

    libraries.py LIBRARY MODEL
"""

import os
import sys
from collections.abc import Callable
from typing import Any

TURNS = 12
QUESTION = "Run a command, and say what it printed."
COMMAND = {"type": "object", "properties": {"command": {"type": "string"}}, "required": ["command"]}


def run_command(command: str) -> str:
    """Run a command."""
    return f"{command}: done"


def openai_agents(model: str) -> Callable[[], str]:
    from agents import Agent, Runner, function_tool

    agent = Agent(name="worker", model=model, tools=[function_tool(run_command)])
    return lambda: str(Runner.run_sync(agent, QUESTION).final_output)


def pydantic_ai(model: str) -> Callable[[], str]:
    from pydantic_ai import Agent

    agent = Agent(f"openai-chat:{model}", tools=[run_command])
    return lambda: str(agent.run_sync(QUESTION).output)


def langchain_openai(model: str) -> Callable[[], str]:
    from langchain_openai import ChatOpenAI

    return langchain(ChatOpenAI(model=model))


def langchain_anthropic(model: str) -> Callable[[], str]:
    from langchain_anthropic import ChatAnthropic

    return langchain(ChatAnthropic(model_name=model))


def langchain(model: Any) -> Callable[[], str]:
    from langchain_core.messages import HumanMessage, ToolMessage

    with_tools = model.bind_tools([run_command])

    def work() -> str:
        messages: list[Any] = [HumanMessage(QUESTION)]
        while True:
            answer = with_tools.invoke(messages)
            if not answer.tool_calls:
                return str(answer.content)
            messages.append(answer)
            messages += [ToolMessage(run_command(**call["args"]), tool_call_id=call["id"]) for call in answer.tool_calls]

    return work


def litellm(model: str) -> Callable[[], str]:
    from litellm import completion

    tool = {"type": "function", "function": {"name": "run_command", "parameters": COMMAND}}

    def work() -> str:
        messages: list[Any] = [{"role": "user", "content": QUESTION}]
        while True:
            answer = completion(f"openai/{model}", messages, tools=[tool]).choices[0].message
            if not answer.tool_calls:
                return str(answer.content)
            messages.append(answer)
            messages += [{"role": "tool", "tool_call_id": call.id, "content": "done"} for call in answer.tool_calls]

    return work


def main() -> None:
    library, model = sys.argv[1:]
    work: Callable[[], str] = globals()[library](model)
    for turn in range(TURNS):
        try:
            print(work(), flush=True)
        except Exception as error:
            print(f"in turn {turn + 1}: {type(error).__name__}: {error}", flush=True)
            # Some libraries have threads that would not end.
            os._exit(1)


main()
