"""Prints the answer to a message as it arrives: python chat.py MESSAGE"""

import os
import sys

import httpx

url = os.environ.get("LLM_URL", "http://localhost:8080") + "/chat/stream"
headers = {"Authorization": f"Bearer {os.environ['LLM_KEY']}"} if "LLM_KEY" in os.environ else {}

with httpx.stream("POST", url, json={"message": " ".join(sys.argv[1:]) or "Hello"}, headers=headers, timeout=300) as response:
    if response.is_error:
        response.read()
        sys.exit(response.json()["detail"])
    lines = []  # of one event
    for line in response.iter_lines():
        if line.startswith("data: "):
            lines.append(line[6:])
        elif lines:  # an empty line ends the event
            text, lines = "\n".join(lines), []
            if text == "[DONE]":
                print()
                break
            print(text, end="", flush=True)
