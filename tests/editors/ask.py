"""Asks a YAML language server what a person would see.

From stdin: {"server": FOLDER, "settings": {…}, "folder": FOLDER, "cases": [{"name": FILE, "text": …, "at": [line, column]}]}.
To stdout: for each case what is marked, what is offered at the place and what is shown there, with the milliseconds
that each took. Lines and columns begin at 1.
"""

import json
import os
import subprocess
import sys
import threading
import time

PATIENCE = 30


class Server:
    """One language server, spoken to over its stdin and stdout."""

    def __init__(self, folder, settings, root):
        program = os.path.join(folder, "bin", "yaml-language-server")
        self.process = subprocess.Popen(
            ["node", program, "--stdio"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        self.settings = nested(settings)
        self.number = 0
        self.news = threading.Condition()
        self.answers, self.marked = {}, {}
        self.ended = self.configured = False
        threading.Thread(target=self.listen, daemon=True).start()
        self.root = "file://" + root
        snippets = {"completionItem": {"snippetSupport": True, "documentationFormat": ["markdown"]}}
        markdown = {"hover": {"contentFormat": ["markdown"]}, "completion": snippets}
        folders = [{"uri": self.root, "name": "test"}]
        workspace = {"configuration": True, "workspaceFolders": True, "didChangeConfiguration": {}}
        capabilities = {"textDocument": markdown, "workspace": workspace}
        self.ask("initialize", processId=os.getpid(), rootUri=self.root, workspaceFolders=folders, capabilities=capabilities)
        self.tell("initialized")
        self.tell("workspace/didChangeConfiguration", settings=self.settings)
        self.wait(lambda: self.configured, "what its settings are")

    def send(self, message):
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self.process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        self.process.stdin.flush()

    def tell(self, method, **params):
        self.send({"method": method, "params": params})

    def ask(self, method, **params):
        self.number += 1
        number = self.number
        self.send({"id": number, "method": method, "params": params})
        return self.wait(lambda: number in self.answers, method) and self.answers.pop(number)

    def wait(self, there, what):
        with self.news:
            if not self.news.wait_for(lambda: there() or self.ended, PATIENCE) or self.ended:
                raise SystemExit(f"the language server did not answer {what}")
            return True

    def listen(self):
        while (message := self.read()) is not None:
            if "method" in message and "id" in message:
                self.send({"id": message["id"], "result": self.answer(message)})
            with self.news:
                self.configured = self.configured or message.get("method") == "workspace/configuration"
                if message.get("method") == "textDocument/publishDiagnostics":
                    self.marked[message["params"]["uri"]] = message["params"]["diagnostics"]
                elif "id" in message and "method" not in message:
                    self.answers[message["id"]] = message.get("result", {"error": message.get("error")})
                self.news.notify_all()
        with self.news:
            self.ended = True
            self.news.notify_all()

    def read(self):
        length = None
        while line := self.process.stdout.readline().strip():
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        return None if length is None else json.loads(self.process.stdout.read(length))

    def answer(self, message):
        """What the server asks of an editor: its settings."""
        if message["method"] != "workspace/configuration":
            return None
        return [self.settings.get(item.get("section")) for item in message["params"]["items"]]

    def settled(self, uri):
        """The marks of a file. None at first may mean that the schema is not read yet: more come soon, or never."""
        with self.news:
            self.news.wait_for(lambda: self.marked[uri] or self.ended, 0.5)
            return self.marked[uri]

    def close(self):
        self.ask("shutdown")
        self.tell("exit")
        self.process.wait(PATIENCE)


def nested(settings):
    """Settings as a server takes them: `yaml.hover` of an editor is `hover` of `yaml`."""
    out = {}
    for name, value in settings.items():
        below = out
        *above, last = name.split(".")
        for step in above:
            below = below.setdefault(step, {})
        below[last] = value
    return out


def timed(work):
    began = time.monotonic()
    result = work()
    return result, round((time.monotonic() - began) * 1000, 1)


def case(server, asked):
    uri = f"{server.root}/{asked['name']}"
    document = {"uri": uri, "languageId": "yaml", "version": 1, "text": asked["text"]}

    def opened():
        server.tell("textDocument/didOpen", textDocument=document)
        server.wait(lambda: uri in server.marked, f"what is wrong with {asked['name']}")
        return server.settled(uri)

    marked, took = timed(opened)
    seen = {"name": asked["name"], "marked": [mark(one) for one in marked], "took": {"open": took}}
    if "at" in asked:
        line, column = asked["at"]
        place = {"textDocument": {"uri": uri}, "position": {"line": line - 1, "character": column - 1}}
        offered, seen["took"]["complete"] = timed(lambda: server.ask("textDocument/completion", **place))
        items = offered["items"] if isinstance(offered, dict) else offered or []
        seen["offered"] = [offer(item) for item in items]
        shown, seen["took"]["hover"] = timed(lambda: server.ask("textDocument/hover", **place))
        seen["shown"] = text(shown["contents"]) if shown else ""
    server.tell("textDocument/didClose", textDocument={"uri": uri})
    return seen


def mark(one):
    start = one["range"]["start"]
    return {
        "line": start["line"] + 1,
        "column": start["character"] + 1,
        "error": one.get("severity", 1) == 1,
        "message": one["message"],
    }


def offer(item):
    inserted = item.get("insertText") or item.get("textEdit", {}).get("newText") or item["label"]
    return {"label": item["label"], "inserted": inserted, "about": text(item.get("documentation") or "")}


def text(content):
    return content if isinstance(content, str) else content.get("value", "")


def main():
    asked = json.load(sys.stdin)
    server, took = timed(lambda: Server(asked["server"], asked["settings"], asked["folder"]))
    seen = [case(server, one) for one in asked["cases"]]
    server.close()
    json.dump({"start": took, "cases": seen}, sys.stdout, ensure_ascii=False)


if __name__ == "__main__":
    main()
