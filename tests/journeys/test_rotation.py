"""Credentials are rotated by one command while the stack is at work."""

from collections.abc import Callable
from pathlib import Path

import httpx
from dotenv import dotenv_values

from tests.journeys.stack import Stack, wait_until

GOOD = "date,region,orders,revenue\n2026-01-05,north,1,2.5\n"


def test_one_command_replaces_the_credentials_of_a_running_stack_and_files_go_on_being_loaded(
    tmp_path: Path, new_stack: Callable[..., Stack]
):
    stack = new_stack(tmp_path / "state", PREFECT_API_AUTH_STRING="")
    env_file = Path(stack.environment["ENV_FILE"])
    env_file.write_text("UPLOAD_TOKEN=an-old-upload-token\n")
    stack.start()
    try:
        page = f"http://127.0.0.1:{stack.sensor_port}"

        def status(url: str, auth_string: str) -> int:
            user, _, password = auth_string.partition(":")
            try:
                return httpx.get(url, auth=(user, password), trust_env=False, timeout=30).status_code
            except httpx.TransportError:  # it is being restarted
                return 0

        def upload(name: str, token: str) -> int:
            headers = {"Authorization": f"Bearer {token}"}
            return httpx.put(f"{page}/inbox/metrics/{name}", content=GOOD, headers=headers, trust_env=False).status_code

        old, pid = dotenv_values(env_file), stack.pid
        said = stack.command("sensors", "rotate-credentials", seconds=250)
        assert said.returncode == 0, said.stdout + said.stderr
        new = dotenv_values(env_file)
        assert new["PREFECT_API_AUTH_STRING"] not in said.stdout
        for url in (f"{stack.api.base_url}admin/version", page):
            wait_until(lambda url=url: status(url, new["PREFECT_API_AUTH_STRING"]) == 200, f"{url} takes the new", 90)
            assert status(url, old["PREFECT_API_AUTH_STRING"]) == 401
        assert stack.pid == pid
        assert upload("old.csv", old["UPLOAD_TOKEN"]) == 401
        assert upload("new.csv", new["UPLOAD_TOKEN"]) == 201
        stack.books_when(lambda books: books["loaded"] == 1, "the file is loaded", 90)
        wait_until(lambda: stack.status()["healthy"], "all is well again", 60)
    finally:
        stack.stop()
