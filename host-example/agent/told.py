"""What the router told the model at the end of its requests, as the stand-in for its provider saw it.

told.py STUB
"""

import json
import sys
import urllib.request


def main() -> None:
    """Print every note, with the tokens that its request might be answered with and whether it has tools."""
    with urllib.request.urlopen(f"{sys.argv[1]}/stub/requests") as response:
        requests = json.load(response)
    for request in requests:
        body = request["body"]
        _, separator, note = body["messages"][-1]["content"].rpartition("\n\n")
        if separator and "oken budget" in note:
            print(f"tools {body.get('tool_choice', 'auto')}, {body['max_completion_tokens']} tokens: {note}")


main()
