"""Prefetch against a hub of our own on the loopback address: sizes first, resumed, checked, nothing twice."""

import hashlib
import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from analysis.errors import PreflightError
from analysis.servers import prefetch
from analysis.study import plan
from analysis.study.params import Patch
from analysis.study.study_file import validate

SOUND = b"class Layer:\n    pass\n" * 50
HEADER = b'{"w": {"dtype": "U8", "shape": [25600000], "data_offsets": [0, 25600000]}}'
FILES = {
    "config.json": json.dumps({"text_config": {"hidden_size": 8}}).encode(),
    "tokenizer_config.json": b'{"chat_template": "x"}',
    "model.safetensors": len(HEADER).to_bytes(8, "little") + HEADER + bytes(range(256)) * 100_000,
    "original/model.safetensors": b"not wanted",
    "model.gguf": b"not wanted",
}
COMMIT = "1" * 40


class Hub(BaseHTTPRequestHandler):
    """The few addresses of a model hub that a download needs, and a plain file."""

    asked: list = []
    cut = 0  # break off the first answer for the weights after so many bytes

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self._file(send=False)

    def do_GET(self):
        if self.path.startswith("/api/models/"):
            siblings = [{"rfilename": n, "size": len(c), "blobId": "b", "lfs": None} for n, c in FILES.items()]
            answer = {"id": "them/model", "modelId": "them/model", "sha": COMMIT, "siblings": siblings, "tags": []}
            if "nobody" in self.path:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                return self.end_headers()
            return self._send(json.dumps(answer).encode())
        self._file(send=True)

    def _file(self, send):
        name = self.path.split("/", 5)[-1] if "/resolve/" in self.path else self.path.lstrip("/")
        content = SOUND if name == "patch.py" else FILES[name]
        begin = int((self.headers.get("Range") or "bytes=0-")[6:].split("-")[0])
        if send:
            self.asked.append((name, begin))
        if begin >= len(content):
            self.send_response(416)
            self.send_header("Content-Length", "0")
            return self.end_headers()
        part = content[begin:]
        self.send_response(206 if begin else 200)
        if begin:
            self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
        self.send_header("Content-Length", str(len(part)))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if send:
            cut, type(self).cut = (self.cut, 0) if name == "model.safetensors" else (0, self.cut)
            self.wfile.write(part[: cut or None])
            if cut:
                self.connection.close()

    def _send(self, content):
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)


@pytest.fixture
def hub(monkeypatch, tmp_path):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("HF_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("HF_HUB_CACHE", raising=False)
    handler = type("Handler", (Hub,), {"asked": [], "cut": 0})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", handler
    server.shutdown()
    server.server_close()


def made(**changes):
    raw = {"study": "x", "title": "x", "target": {"model": "them/model"}, "drafter": {"model": "them/model"}}
    return plan.make(validate({**raw, **changes}))


def test_sizes_are_said_before_anything_is_downloaded_and_a_second_run_downloads_nothing(hub):
    url, handler = hub
    said = []
    prefetch.run(made(), said.append, endpoint=url)
    size = next(i for i, text in enumerate(said) if "GiB in 3 files" in text)
    assert all("file 1 of 3" not in text for text in said[:size])
    assert {n for n, _ in handler.asked} == {"config.json", "tokenizer_config.json", "model.safetensors"}
    before = len(handler.asked)
    prefetch.run(made(), said.append, endpoint=url)
    assert len(handler.asked) == before and "nothing was downloaded" in said[-1]


def test_a_model_for_a_container_path_goes_to_the_folder_that_is_mounted_there(hub, tmp_path):
    url, _ = hub
    server = {"backend": "docker", "image": "i", "mounts": [f"{tmp_path}/models:/models"]}
    model = {"model": "/models/m", "hub": "them/model"}
    prefetch.run(made(target=model, drafter=model, server=server), lambda text: None, endpoint=url)
    assert (tmp_path / "models/m/model.safetensors").read_bytes() == FILES["model.safetensors"]


def test_a_broken_download_says_so_and_the_next_run_completes_it(hub, monkeypatch):
    url, handler = hub
    handler.cut = 15_000_000
    said = []
    try:
        prefetch.run(made(), said.append, endpoint=url)
    except PreflightError as error:
        assert "Run the same command again" in error.fix
        prefetch.run(made(), said.append, endpoint=url)
    assert any(name == "model.safetensors" and begin > 0 for name, begin in handler.asked)  # went on, not anew
    before = len(handler.asked)
    prefetch.run(made(), said.append, endpoint=url)
    assert len(handler.asked) == before


def test_a_model_that_the_hub_does_not_know_is_one_screen(hub):
    url, _ = hub
    with pytest.raises(PreflightError) as error:
        prefetch.run(made(target={"model": "nobody/here"}), lambda text: None, endpoint=url)
    assert "nobody/here" in str(error.value) and "HF_TOKEN" in error.value.fix


def test_the_patch_is_fetched_once_and_held_to_its_hash(hub, tmp_path):
    url, handler = hub
    patch = Patch(url=f"{url}/patch.py", file=str(tmp_path / "assets/gemma4_mtp.py"))
    said = []
    path = prefetch.fetch_patch(patch, said.append)
    digest = hashlib.sha256(SOUND).hexdigest()
    assert path.read_bytes() == SOUND and digest in said[-1]
    prefetch.fetch_patch(patch, said.append)
    assert len(handler.asked) == 1  # kept, not fetched again
    pinned = patch.model_copy(update={"sha256": digest})
    prefetch.fetch_patch(pinned, said.append)
    assert len(handler.asked) == 1
    path.write_bytes(b"tampered")
    prefetch.fetch_patch(patch, said.append)
    assert path.read_bytes() == SOUND


def test_a_patch_with_another_hash_or_with_the_bugs_is_refused(hub, tmp_path, monkeypatch):
    url, _ = hub
    file = str(tmp_path / "gemma4_mtp.py")
    with pytest.raises(PreflightError, match="not the file that was expected"):
        prefetch.fetch_patch(Patch(url=f"{url}/patch.py", file=file, sha256="0" * 64), lambda text: None)
    monkeypatch.setattr(prefetch.patchfile, "bugs", lambda text: ["intermediate_size comes from the top-level"])
    (tmp_path / "gemma4_mtp.py.part").unlink()
    with pytest.raises(PreflightError, match="is not the patched one"):
        prefetch.fetch_patch(Patch(url=f"{url}/patch.py", file=file), lambda text: None)
    assert not (tmp_path / "gemma4_mtp.py").exists()


def test_a_part_of_the_patch_is_continued(hub, tmp_path):
    url, handler = hub
    (tmp_path / "gemma4_mtp.py.part").write_bytes(SOUND[:100])
    path = prefetch.fetch_patch(Patch(url=f"{url}/patch.py", file=str(tmp_path / "gemma4_mtp.py")), lambda text: None)
    assert path.read_bytes() == SOUND and handler.asked == [("patch.py", 100)]


def test_a_folder_that_docker_made_in_the_patchs_place_is_told(tmp_path):
    (tmp_path / "gemma4_mtp.py").mkdir()
    with pytest.raises(PreflightError, match="is a folder"):
        prefetch.fetch_patch(Patch(url="http://127.0.0.1:9/x", file=str(tmp_path / "gemma4_mtp.py")))
