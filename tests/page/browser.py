"""Chromium over WebDriver, with Python's standard library alone: https://www.w3.org/TR/webdriver2/ and what chromedriver adds."""
import base64
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import time

# The key under which WebDriver hands out elements.
ELEMENT = "element-6066-11e4-a52e-4f735466cecf"
# Longest that anything on the page may take to come about, and longest wait for one answer of the driver, seconds.
PATIENCE_S = 60
ANSWER_S = 120
# Between two looks at something that sends no event.
POLL_S = 0.05


def wait_for(what, ask, patience=PATIENCE_S):
    """Asks again and again until there is an answer; what was waited for in vain is named."""
    end = time.monotonic() + patience
    while True:
        answer = ask()
        if answer:
            return answer
        if time.monotonic() > end:
            raise AssertionError(f"waited {patience} s in vain for {what}")
        time.sleep(POLL_S)


def free_port():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class Browser:
    def __init__(self, width=1280, height=900):
        driver = shutil.which("chromedriver") or "/usr/bin/chromedriver"
        self.profile = tempfile.mkdtemp(prefix="weir-page-")
        self.port = free_port()
        self.session = None
        self.process = subprocess.Popen([driver, f"--port={self.port}", "--log-level=SEVERE"], stdout=subprocess.DEVNULL,
                                        stderr=subprocess.DEVNULL, start_new_session=True)
        try:
            wait_for("chromedriver", self.is_ready)
            arguments = ["--headless=new", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run", "--no-default-browser-check",
                         "--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
                         f"--user-data-dir={self.profile}", f"--window-size={width},{height}", "--lang=en-US"]
            if os.geteuid() == 0:
                # Chromium's sandbox does not run as root; what it shows here is our own page.
                arguments.append("--no-sandbox")
            options = {"args": arguments, "binary": shutil.which("chromium") or "/usr/bin/chromium"}
            wanted = {"browserName": "chrome", "goog:chromeOptions": options, "goog:loggingPrefs": {"browser": "ALL"}, "timeouts": {"script": 60_000}}
            self.session = self.ask("POST", "/session", {"capabilities": {"alwaysMatch": wanted}})["sessionId"]
            self.size(width, height)
        except BaseException:
            self.close()
            raise

    def close(self):
        try:
            if self.session:
                self.ask("DELETE", f"/session/{self.session}")
        except (OSError, AssertionError):
            pass
        # What chromedriver started is of its group.
        try:
            os.killpg(self.process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        self.process.wait(timeout=PATIENCE_S)
        shutil.rmtree(self.profile, ignore_errors=True)

    def is_ready(self):
        try:
            return self.ask("GET", "/status")["ready"]
        except OSError:
            return False

    def ask(self, method, path, body=None):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        try:
            text = None if method != "POST" else json.dumps(body or {})
            connection.request(method, path, text, {"Content-Type": "application/json"})
            value = json.loads(connection.getresponse().read())["value"]
        finally:
            connection.close()
        if isinstance(value, dict) and "error" in value:
            raise AssertionError(f"{path}: {value['error']}: {value.get('message', '')[:800]}")
        return value

    def do(self, method, path, body=None):
        return self.ask(method, f"/session/{self.session}{path}", body)

    def open(self, url):
        self.do("POST", "/url", {"url": url})

    def run(self, script, *arguments):
        """The value of a function's body in the page; promises are waited for."""
        return self.do("POST", "/execute/sync", {"script": script, "args": list(arguments)})

    def cdp(self, command, **parameters):
        return self.do("POST", "/goog/cdp/execute", {"cmd": command, "params": parameters})

    def size(self, width, height, scale=1):
        self.cdp("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=scale, mobile=width < 600)

    def dark(self, is_dark):
        value = "dark" if is_dark else "light"
        self.cdp("Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": value}])

    def find(self, css, text=None):
        """The first visible element, with that text in it; `None` when there is none."""
        script = """
            const [css, text] = arguments;
            return [...document.querySelectorAll(css)].find(each => each.checkVisibility() && (text === null || each.textContent.includes(text)))"""
        found = self.run(script, css, text)
        return found and found[ELEMENT]

    def await_one(self, css, text=None, patience=PATIENCE_S):
        return wait_for(f"{css} {text or ''}", lambda: self.find(css, text), patience)

    def click(self, css, text=None):
        self.do("POST", f"/element/{self.await_one(css, text)}/click")

    def write(self, css, text):
        element = self.await_one(css)
        self.do("POST", f"/element/{element}/clear")
        self.do("POST", f"/element/{element}/value", {"text": text})

    def keys(self, text):
        """Presses keys where the focus is."""
        actions = [{"type": kind, "value": letter} for letter in text for kind in ("keyDown", "keyUp")]
        self.do("POST", "/actions", {"actions": [{"type": "key", "id": "keys", "actions": actions}]})

    def text(self, css):
        return self.run("return document.querySelector(arguments[0])?.textContent ?? ''", css)

    def said(self):
        """What the browser's console says against the page."""
        return [line for line in self.do("POST", "/se/log", {"type": "browser"}) if line["level"] in ("SEVERE", "WARNING")]

    def shot(self, path):
        """What is seen, as WebP."""
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        data = self.cdp("Page.captureScreenshot", format="webp", quality=80)["data"]
        pathlib.Path(path).write_bytes(base64.b64decode(data))
