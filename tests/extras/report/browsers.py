"""Chromium for the tests of the report: the system's, or playwright's. Run as a script, it installs one if none starts.

python tests/extras/report/browsers.py
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys

from playwright.sync_api import Browser, Error, Playwright, sync_playwright

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
SECONDS = 240
"""The longest that an installer may take."""


def start(playwright: Playwright) -> Browser | str:
    """Start the first Chromium that works, or say why none does."""
    reasons = []
    for path in [*filter(None, map(shutil.which, NAMES)), None]:
        try:
            return playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        except Error as error:
            reasons.append(f"{path or 'playwright'}: {error.message.strip().splitlines()[0]}")
    return "; ".join(reasons)


def works() -> bool:
    with sync_playwright() as playwright:
        found = start(playwright)
        if isinstance(found, str):
            print(f"no Chromium starts ({found})", flush=True)
            return False
        found.close()
        return True


def installers() -> list[list[list[str]]]:
    """Ways to install one, each of some commands. Where apt-get may be used, it brings the libraries as well."""
    may_use_apt = hasattr(os, "geteuid") and os.geteuid() == 0 and shutil.which("apt-get") is not None
    of_playwright = [
        sys.executable,
        "-m",
        "playwright",
        "install",
        *(["--with-deps"] if may_use_apt else []),
        "chromium",
    ]
    apt = [["apt-get", "update", "-q"], ["apt-get", "install", "-q", "-y", "--no-install-recommends", "chromium"]]
    return [apt, [of_playwright]] if may_use_apt else [[of_playwright]]


def install() -> None:
    """Install one if none starts. If that fails too, the tests that need it are skipped, and say so."""
    for commands in installers():
        if works():
            return
        try:
            for command in commands:
                print(" ".join(command), flush=True)
                subprocess.run(
                    command, check=True, timeout=SECONDS, env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
                )
        except (OSError, subprocess.SubprocessError) as error:
            print(error, flush=True)


if __name__ == "__main__":
    install()
