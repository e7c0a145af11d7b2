"""A JupyterLab of its own for the tests, and what they ask of a notebook that is open in it."""

import json
import os
import secrets
import subprocess
import sys
import urllib.request
from dataclasses import dataclass
from pathlib import Path

from dlrm_mini.course.execute import QUIET

STARTING = 120  # seconds, on a machine with much else to do
LIMIT = 300_000  # ms: so long nothing takes that works, even the first import of torch
# No news, no request to the outside, and all cells of a notebook in the page at once.
SETTINGS = {
    "apputils-extension/notification": {"fetchNews": "false", "checkForUpdates": False},
    "notebook-extension/tracker": {"windowingMode": "none"},
}
CONNECTED = """async () => {
    const app = window.jupyterapp;
    await app.restored;
    const frame = () => new Promise(requestAnimationFrame);
    while (!app.shell.currentWidget?.sessionContext) await frame();
    const panel = app.shell.currentWidget;
    await panel.context.ready;
    await panel.sessionContext.ready;
}"""
IDLE = """() => window.jupyterapp.shell.currentWidget.sessionContext.session?.kernel?.status
    === 'idle'"""
RUN = "() => window.jupyterapp.commands.execute('notebook:run-all-cells')"
FAILED = """() => window.jupyterapp.shell.currentWidget.content.widgets
    .flatMap(cell => cell.model.outputs?.toJSON() ?? [])
    .filter(output => output.output_type === 'error')
    .map(output => `${output.ename}: ${output.evalue}`)"""
SHUT_DOWN = "() => window.jupyterapp.shell.currentWidget.sessionContext.shutdown()"


@dataclass
class Lab:
    """A server that runs.

    Attributes:
        url: where it answers.
        token: what it wants to hear.
        folder: what it shows.
    """

    url: str
    token: str
    folder: Path

    def open(self, page, name):
        """Open a notebook and wait until its kernel is ready."""
        page.goto(f"{self.url}doc/tree/{name}?token={self.token}&reset")
        page.wait_for_function("() => window.jupyterapp?.restored")
        page.evaluate(CONNECTED)
        page.wait_for_function(IDLE)


def start(folder, home):
    """Start JupyterLab on `folder`, with everything that it writes under `home`.

    Returns:
        The process and its `Lab`.
    """
    for name, settings in SETTINGS.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True)
        file.write_text(json.dumps(settings), encoding="utf-8")
    token, runtime = secrets.token_hex(16), home / "runtime"
    env = dict(
        os.environ,
        **QUIET,
        DLRM_MINI_RESULTS=str(home / "results.json"),
        JUPYTERLAB_SETTINGS_DIR=str(home / "settings"),
        JUPYTERLAB_WORKSPACES_DIR=str(home / "workspaces"),
        JUPYTER_RUNTIME_DIR=str(runtime),
        JUPYTER_CONFIG_DIR=str(home / "config"),
        JUPYTER_DATA_DIR=str(home / "data"),
        JUPYTER_NO_CONFIG="1",
        JUPYTER_PREFER_ENV_PATH="1",  # the kernel of this Python before any that the user has
        IPYTHONDIR=str(home / "ipython"),
    )
    command = [
        sys.executable, "-m", "jupyterlab", "--no-browser", "--allow-root", "--ip=127.0.0.1",
        "--ServerApp.port=0", f"--ServerApp.root_dir={folder}",
        f"--IdentityProvider.token={token}", "--LabApp.expose_app_in_browser=True",
        "--LabApp.check_for_updates_class=jupyterlab.NeverCheckForUpdate",
    ]  # fmt: skip
    with (home / "log.txt").open("w") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=subprocess.STDOUT, env=env, cwd=folder
        )
    for _ in range(5 * STARTING):
        if url := _answering(runtime, process.pid, token):
            return process, Lab(url, token, folder)
        try:
            process.wait(timeout=0.2)
        except subprocess.TimeoutExpired:
            continue
        break
    stop(process)
    log = (home / "log.txt").read_text(encoding="utf-8", errors="replace")
    raise RuntimeError(f"JupyterLab did not start:\n{log[-2000:]}")


def stop(process):
    """End the server, which ends its kernels."""
    process.terminate()
    try:
        process.wait(timeout=30)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _answering(runtime, pid, token):
    """The server's address, once it answers; it writes down the port that it was given."""
    file = runtime / f"jpserver-{pid}.json"
    try:
        url = json.loads(file.read_text(encoding="utf-8"))["url"]
        with urllib.request.urlopen(f"{url}api/status?token={token}", timeout=5):
            return url
    except (OSError, ValueError, KeyError):
        return None
