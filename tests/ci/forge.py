#!/usr/bin/env python3
"""A forge of tests: as much of the REST API of GitHub (which Forgejo speaks too) and GitLab as examples/ci asks for.

    forge.py STATE.json ADDRESS

STATE.json holds all it knows and is read and written at each request; ADDRESS is a file into which the address of its API
goes once it listens. Lists come two a page. Requests with another token than `right` are refused.
"""
import json
import os
import re
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs, urlsplit

STATE, ADDRESS = sys.argv[1:]
A_PAGE = 2


class Forge(BaseHTTPRequestHandler):
    def answer(self, code, body=None, **headers):
        # Before anybody hears of it.
        with open(STATE + ".new", "w") as file:
            json.dump(self.state, file, indent=1)
        os.replace(STATE + ".new", STATE)
        data = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(code)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def listed(self, items):
        page = int(self.query.get("page", "1"))
        rest = items[page * A_PAGE :]
        link = f'<{base()}{self.path_only}?page=1>; rel="first"'
        if rest:
            kept = "&".join(f"{key}={value}" for key, value in self.query.items() if key != "page")
            where = self.state.get("elsewhere") or base()
            link += f', <{where}{self.path_only}?{kept}&page={page + 1}>; rel="next"'
        self.answer(200, items[(page - 1) * A_PAGE : page * A_PAGE], Link=link)

    def handle_one(self):
        split = urlsplit(self.path)
        self.path_only = split.path.removeprefix("/api")
        self.query = {key: values[0] for key, values in parse_qs(split.query).items()}
        with open(STATE) as file:
            self.state = state = json.load(file)
        length = int(self.headers.get("Content-Length") or 0)
        sent = json.loads(self.rfile.read(length)) if length else None
        authorization = self.headers.get("Authorization")
        private = self.headers.get("Private-Token")
        state["requests"].append(f"{self.command} {self.path_only}")
        stored = re.fullmatch(r"/store/(\d+)", self.path_only)
        if stored:
            # What signed addresses lead to is asked without credentials.
            state["leaked"] = state.get("leaked", False) or bool(authorization)
            with open(state["artifacts"][int(stored[1])]["file"], "rb") as file:
                self.answer(200, file.read())
        elif private == "right" and self.path_only.startswith(("/projects/", "/user")):
            self.gitlab(state, sent)
        elif authorization == "Bearer right" and not self.path_only.startswith("/projects/"):
            self.github(state, sent)
        else:
            self.answer(401, {"message": "Bad credentials"})

    def github(self, state, sent):
        me = {"login": state["me"]}
        ask = f"{self.command} {self.path_only}"
        if len((sent or {}).get("body", "")) > 65536:
            self.answer(422, {"message": "Body is too long (maximum is 65536 characters)"})
        elif found := re.fullmatch(r"GET /repos/o/r/issues/(\d+)/comments", ask):
            self.listed([one for one in state["comments"] if one["on"] == int(found[1])])
        elif found := re.fullmatch(r"POST /repos/o/r/issues/(\d+)/comments", ask):
            made = {"id": 100 + len(state["comments"]), "on": int(found[1]), "user": me, **sent}
            state["comments"].append(made)
            self.answer(201, made)
        elif found := re.fullmatch(r"PATCH /repos/o/r/issues/comments/(\d+)", ask):
            self.changed(state["comments"], "id", found[1], sent)
        elif ask == "GET /repos/o/r/issues":
            self.listed([one for one in state["issues"] if one["state"] == self.query.get("state", "open")])
        elif ask == "POST /repos/o/r/issues":
            made = {"number": 1 + len(state["issues"]), "state": "open", "user": me, **sent}
            state["issues"].append(made)
            self.answer(201, made)
        elif found := re.fullmatch(r"PATCH /repos/o/r/issues/(\d+)", ask):
            self.changed(state["issues"], "number", found[1], sent)
        elif ask == "GET /repos/o/r/actions/artifacts":
            # One page is enough for those of one name.
            found = [one for one in state["artifacts"] if one["name"] == self.query["name"]]
            self.answer(200, {"total_count": len(found), "artifacts": found})
        elif found := re.fullmatch(r"GET /repos/o/r/actions/artifacts/(\d+)/zip", ask):
            # Another host, as the store of files is.
            self.answer(302, Location=base().replace("127.0.0.1", "localhost") + f"/store/{found[1]}")
        elif ask == "GET /user":
            # The token of a workflow belongs to no user.
            self.answer(403, {"message": "Resource not accessible by integration"})
        else:
            self.answer(404, {"message": f"Not Found: {ask}"})

    def gitlab(self, state, sent):
        me = {"username": state["me"]}
        ask = f"{self.command} {self.path_only}"
        if ask == "GET /user":
            self.answer(200, me)
        elif found := re.fullmatch(r"GET /projects/42/merge_requests/(\d+)/notes", ask):
            self.listed([one for one in state["comments"] if one["on"] == int(found[1])])
        elif found := re.fullmatch(r"POST /projects/42/merge_requests/(\d+)/notes", ask):
            made = {"id": 100 + len(state["comments"]), "on": int(found[1]), "author": me, **sent}
            state["comments"].append(made)
            self.answer(201, made)
        elif found := re.fullmatch(r"PUT /projects/42/merge_requests/\d+/notes/(\d+)", ask):
            self.changed(state["comments"], "id", found[1], sent)
        elif ask == "GET /projects/42/issues":
            self.listed([one for one in state["issues"] if one["state"] == self.query["state"]])
        elif ask == "POST /projects/42/issues":
            made = {"id": 900, "iid": 1 + len(state["issues"]), "state": "opened", "author": me, **sent}
            state["issues"].append(made)
            self.answer(201, made)
        elif found := re.fullmatch(r"PUT /projects/42/issues/(\d+)", ask):
            if sent.pop("state_event", None) == "close":
                sent["state"] = "closed"
            self.changed(state["issues"], "iid", found[1], sent)
        else:
            self.answer(404, {"message": f"404 Not Found: {ask}"})

    def changed(self, items, key, number, sent):
        for one in items:
            if one[key] == int(number):
                one.update(sent)
                return self.answer(200, one)
        return self.answer(404, {"message": "Not Found"})

    def log_message(self, *_):
        pass

    do_GET = do_POST = do_PATCH = do_PUT = handle_one


def base():
    return f"http://127.0.0.1:{SERVER.server_port}/api"


SERVER = HTTPServer(("127.0.0.1", 0), Forge)
with open(ADDRESS + ".new", "w") as file:
    file.write(base())
os.replace(ADDRESS + ".new", ADDRESS)
SERVER.serve_forever()
