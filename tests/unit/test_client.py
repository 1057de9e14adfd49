"""What an answer must be to count, what it says of itself, and every limit; against scripted servers on real sockets.

Each fault stands beside its nearest sound neighbour: the smallest violation is refused, what is just inside is taken.
"""

import gzip
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from analysis.errors import ClientError, ConnectionLost, CountersError, Deadlock
from analysis.measure import client as clients
from analysis.measure.client import Client
from analysis.measure.counters import snapshot
from analysis.servers import web
from analysis.study import plan, study_file
from analysis.study.plan import Cell, Request, Sampling

sys.path.insert(0, str(Path(__file__).parent))
from scripted import MODEL, chunk, drip, flood, serving, sound, usage, words

LIMIT = 5.0


def cell(flavour="vllm", name=MODEL, tokens=64, k=0, endpoint="chat", **sampling):
    server = {"backend": "external", "url": "http://127.0.0.1:1", "flavour": flavour, "served_model_name": name}
    study = study_file.validate(
        {
            "study": "scripted",
            "title": "A scripted server",
            "target": {"model": "some/target"},
            "drafter": {"model": "some/drafter"},
            "server": server,
            "k_values": [2],
            "k": 2,
        }
    )
    arm = next(a for a in plan.make(study).arms if a.k == k)
    given = {"temperature": 0.7, "top_p": 1.0, "max_tokens": tokens, "ignore_eos": True, **sampling}
    request = Request("p", "hello", 7, 0)
    return Cell(arm, 1, "timing", "en_finance", 1, 1, Sampling(**given), (request,), endpoint)


def ask(events, limit=LIMIT, asked=None, **server):
    asked = asked or cell()
    with serving(events, **server) as (url, script):
        client = Client(url, limit)
        try:
            return client.ask(asked, asked.requests[0]), script.seen[-1]
        finally:
            client.close()


def refused(events, words, kind=ClientError, **more):
    with pytest.raises(kind, match=words) as error:
        ask(events, **more)
    assert error.value.fix and len(str(error.value).splitlines()) < 25
    return error.value


def test_a_sound_answer_is_read_whole():
    answer, _ = ask(sound(8))
    assert (answer.completion_tokens, answer.chunks, answer.prompt_tokens, answer.finish_reason) == (8, 8, 5, "length")
    assert answer.text == "".join(f"word{i} " for i in range(8)) and answer.thinking_chunks == 0


@pytest.mark.parametrize("hangs_up", [False, True])
def test_a_connection_is_kept_between_requests_and_opened_anew_where_the_server_let_go(hangs_up):
    asked = cell()
    with serving(sound(8), headers={"Transfer-Encoding": "chunked"}) as (url, script):
        script.hangs_up = hangs_up
        client = Client(url, LIMIT)
        for _ in range(3):
            assert client.ask(asked, asked.requests[0]).completion_tokens == 8
            time.sleep(0.05)
        client.close()
        assert len(script.connections) == (3 if hangs_up else 1)


def test_what_is_told_of_ended_requests_is_of_this_measurement_alone():
    asked, told = cell(), []
    requests = tuple(Request("p", f"hello {i}", i, i % 2) for i in range(6))

    def slow():
        time.sleep(0.3)  # longer than the client waits between two looks
        yield from sound(8)

    with serving(slow) as (url, _):
        client = Client(url, LIMIT)
        client.ask(asked, asked.requests[0])  # a warm-up counts for nobody
        for _ in range(2):
            told.append([])
            client.send(replace(asked, requests=requests), told[-1].append)
        client.close()
    for one in told:
        assert one == sorted(set(one)) and one[0] > 0 and one[-1] <= 6


def test_a_chunked_answer_that_is_cut_is_a_broken_connection():
    def cut():
        yield from words(3)
        raise RuntimeError  # the server ends the connection

    refused(cut, "connection to the server broke", ConnectionLost, headers={"Transfer-Encoding": "chunked"})


# -- the model ---------------------------------------------------------------------------------------------------


def test_a_chunk_of_another_model_in_mid_answer_is_refused():
    events = sound(8)
    events[5] = chunk({"content": "x"}, model="other")
    refused(events, "answers as 'other', and 'served' was asked for")


@pytest.mark.parametrize("name", ["Served", "served ", "serve", ""])
def test_one_character_makes_another_model_and_the_last_chunk_counts_too(name):
    events = sound(8)
    refused([*events[:-2], chunk(usage=usage(8)["usage"], model=name), "[DONE]"], "another|was asked for")
    assert ask([*events[:-2], chunk(usage=usage(8)["usage"], model=None), "[DONE]"])[0].completion_tokens == 8


@pytest.mark.parametrize("flavour", ["vllm", "llama.cpp"])
def test_the_served_name_is_sent_and_never_the_first_in_the_list(flavour):
    _, body = ask(sound(), asked=cell(flavour), models=("Qwen", MODEL))
    assert body["model"] == MODEL


@pytest.mark.parametrize("flavour", ["vllm", "llama.cpp"])
def test_a_server_without_the_arms_model_is_refused_before_anything_is_sent(flavour):
    refused(sound(), "does not serve 'served'", asked=cell(flavour), models=("Qwen",))


# -- thinking, tool calls ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("flavour", "key"), [("vllm", "reasoning"), ("llama.cpp", "reasoning_content")])
def test_thinking_is_stamped_as_the_tokens_it_is(flavour, key):
    slow = [e for part in (words(40, key), words(10)) for w in part for e in (0.02, w)]
    answer, _ = ask([*slow, chunk(finish="length"), usage(50), "[DONE]"], asked=cell(flavour))
    assert answer.ttft < 0.2 and answer.last - answer.ttft > 49 * 0.02
    assert 0.019 < (answer.last - answer.ttft) / 49 < 0.06  # 20 ms per token, not 3.7
    assert (answer.thinking_chunks, answer.chunks) == (40, 50)
    assert answer.text == "".join(f"word{i} " for i in range(10))


def test_a_tool_call_is_named():
    call = chunk({"tool_calls": [{"index": 0, "function": {"name": "f", "arguments": "{}"}}]})
    refused([call, chunk(finish="tool_calls"), usage(5), "[DONE]"], "is a tool call")


def test_an_empty_list_of_tool_calls_is_none():
    answer, _ = ask([chunk({"content": "a", "tool_calls": []}), chunk(finish="stop"), usage(1), "[DONE]"])
    assert answer.text == "a"


# -- usage, ends ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tokens", [8, 64])
def test_a_usage_that_fits_the_text_is_taken(tokens):
    assert ask([*sound(8)[:-2], usage(tokens), "[DONE]"])[0].completion_tokens == tokens


@pytest.mark.parametrize("tokens", [7, 65])  # 8 chunks with text; at most 64 tokens
def test_a_usage_that_cannot_be_right_is_refused(tokens):
    refused([*sound(8)[:-2], usage(tokens), "[DONE]"], "usage of an answer cannot be right")


def test_a_usage_smaller_than_the_text_can_be_is_refused():
    def answered(size):  # one token has 512 bytes at most
        return [chunk({"content": "x" * size}), chunk(finish="stop"), usage(2), "[DONE]"]

    assert ask(answered(1024))[0].completion_tokens == 2
    refused(answered(1025), "usage of an answer cannot be right")


def test_the_prompts_tokens_may_not_change_either():
    first = chunk({"content": "a"}, usage=usage(1)["usage"])
    refused([first, chunk(finish="stop"), usage(1, prompt=6), "[DONE]"], "changed its token usage")
    assert ask([first, chunk(finish="stop"), usage(1, prompt=5), "[DONE]"])[0].prompt_tokens == 5


def test_a_growing_usage_is_taken_and_one_that_changes_after_the_end_is_not():
    grown = [chunk({"content": f"w{i}"}, **{"usage": usage(i + 1)["usage"]}) for i in range(3)]
    assert ask([*grown, chunk(finish="stop", usage=usage(3)["usage"]), usage(3), "[DONE]"])[0].completion_tokens == 3
    refused([*grown, chunk(finish="stop", usage=usage(3)["usage"]), usage(4), "[DONE]"], "changed its token usage")
    refused([*grown, usage(2), chunk(finish="stop"), usage(3), "[DONE]"], "changed its token usage")


def test_one_finish_reason_and_nothing_after_it():
    refused([*words(2), chunk(finish="length"), chunk(finish="stop"), usage(2), "[DONE]"], "ended twice")
    refused([*words(2), chunk(finish="length"), *words(1), usage(3), "[DONE]"], "text after the end")
    refused([*words(2), usage(2), "[DONE]"], "no finish reason")
    refused([*words(2), chunk(finish="abort"), usage(2), "[DONE]"], "finish reason 'abort'")


def test_chunks_after_done_are_refused_and_pings_are_not():
    refused([*sound(2), *words(1)], "went on after the end")
    assert ask([*sound(2), b": ping\n\n"])[0].completion_tokens == 2


def test_an_answer_that_stops_before_its_usage_is_a_broken_connection():
    refused(words(5), "connection to the server broke", ConnectionLost)


def test_an_engine_that_dies_in_mid_answer_is_named():
    error = {"error": {"message": "EngineCore encountered an issue. See stack trace (above).", "code": 500}}
    refused([*words(5), error, "[DONE]"], "The engine died during a request", ConnectionLost)


def test_pings_empty_content_and_carriage_returns_are_no_text():
    events = [b":\r\n\r\n", chunk({"role": "assistant", "content": None}), b": keepalive\r\n\r\n", *words(5)]
    answer, _ = ask([*events, b":\n\n", chunk(finish="length"), usage(5), "[DONE]"])
    assert answer.chunks == 5


def test_a_refusal_is_told_with_the_servers_reason():
    error = {"error": {"message": "The model `gemma-4` does not exist.", "code": 404}}
    assert "does not exist" in refused(error, "HTTP 404", status=404).why


# -- odd answers ---------------------------------------------------------------------------------------------------

ODD = {
    "NaN": 'data: {"choices": [], "usage": {"prompt_tokens": NaN, "completion_tokens": 5}}\n\n',
    "infinity": 'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 1e999}}\n\n',
    "a fraction": 'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": 5.5}}\n\n',
    "true": 'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": true}}\n\n',
    "negative": 'data: {"choices": [], "usage": {"prompt_tokens": 5, "completion_tokens": -1}}\n\n',
    "deep": "data: " + "[" * 20000 + "]" * 20000 + "\n\n",
    "a list": "data: [1, 2]\n\n",
    "choices": 'data: {"choices": {"a": 1}}\n\n',
    "null in choices": 'data: {"choices": [null]}\n\n',
    "delta": 'data: {"choices": [{"index": 0, "delta": [1]}]}\n\n',
    "content": 'data: {"choices": [{"index": 0, "delta": {"content": {"a": 1}}}]}\n\n',
    "finish": 'data: {"choices": [{"index": 0, "delta": {}, "finish_reason": 3}]}\n\n',
    "usage": 'data: {"choices": [], "usage": "five"}\n\n',
    "steps": 'data: {"choices": [], "metrics": {"speculative_decoding": {"per_step_accepted": [1, null]}}}\n\n',
    "steps of other steps": 'data: {"choices": [], "metrics": {"speculative_decoding": '
    '{"per_step_accepted": [1, 1], "per_step_drafted": [2]}}}\n\n',
    "more accepted than drafted": 'data: {"choices": [], "metrics": {"speculative_decoding": '
    '{"per_step_accepted": [3], "per_step_drafted": [2]}}}\n\n',
    "html": "data: <html>proxy error</html>\n\n",
    "bytes": "data: \udcff\udcfe\n\n",
}


@pytest.mark.parametrize("kind", ODD)
def test_an_odd_chunk_is_one_clear_error(kind):
    refused([*words(3), ODD[kind].encode(errors="surrogateescape"), *sound(3)[4:]], "not a chat completion")


def test_null_lists_are_empty_ones():
    empty = {"choices": None, "metrics": {"speculative_decoding": {"per_step_accepted": None}}, "model": MODEL}
    assert ask([empty, *sound(3)])[0].steps_accepted == ()


def test_half_a_character_is_refused_and_two_halves_are_one():
    end = [chunk(finish="stop"), usage(2), "[DONE]"]
    refused([chunk({"content": "\ud83d"}), *end], "lone surrogate")
    assert ask([chunk({"content": "\ud83d"}), chunk({"content": "\ude00"}), *end])[0].text == "\U0001f600"


# -- limits --------------------------------------------------------------------------------------------------------


def pings(seconds, step=0.1):
    return [*words(1), *[e for _ in range(int(seconds / step)) for e in (step, b":\n\n")], *sound(1)[2:]]


def test_pings_do_not_move_a_requests_limit():
    begin = time.monotonic()
    refused(pings(6), "within its time limit of 1 s", limit=1.0, asked=cell("llama.cpp"))
    assert time.monotonic() - begin < 2.0
    assert ask(pings(0.5), limit=2.0, asked=cell("llama.cpp"))[0].chunks == 1


def test_drips_of_an_event_do_not_move_it_either():
    begin = time.monotonic()
    refused([e for _ in range(60) for e in (0.1, b" ")], "within its time limit", limit=1.0)
    assert time.monotonic() - begin < 2.0


def metrics(tokens, running=1):
    return lambda handler: Page.send(
        handler, f"vllm:generation_tokens_total {tokens()}\nvllm:num_requests_running {running}\n"
    )


class Page:
    @staticmethod
    def send(handler, text):
        handler.send_response(200)
        handler.send_header("Content-Length", str(len(text)))
        handler.end_headers()
        handler.wfile.write(text.encode())


def test_frozen_tokens_with_a_running_request_are_a_deadlock_and_moving_ones_are_not():
    stuck = [*words(3), 4.0]
    refused(stuck, "frozen .a deadlock.", Deadlock, limit=1.0, pages={"/metrics": metrics(lambda: 42)})
    ticking = iter(range(100))
    error = refused(stuck, "within its time limit", limit=1.0, pages={"/metrics": metrics(lambda: next(ticking))})
    assert not isinstance(error, Deadlock)
    error = refused(stuck, "within its time limit", limit=1.0, pages={"/metrics": metrics(lambda: 42, running=0)})
    assert not isinstance(error, Deadlock)


def test_an_answer_without_end_is_cut(monkeypatch):
    monkeypatch.setattr(clients, "BYTES", 10_000)
    monkeypatch.setattr(clients, "BYTES_PER_TOKEN", 0)
    refused(lambda: (b":" + b"x" * 999 + b"\n" for _ in range(100_000)), "has no end")
    refused([b"data: " + b"x" * 10_001], "has no end")
    assert ask([b":" + b"x" * 8_000 + b"\n", *sound(1)])[0].chunks == 1


def test_a_compressed_answer_is_not_unpacked():
    refused([gzip.compress(b"0" * 10**7)], "not the kind that was asked for", headers={"Content-Encoding": "gzip"})


@pytest.mark.parametrize("page", [drip, flood])
def test_small_pages_are_bounded_in_bytes_and_time(page, monkeypatch):
    for name in ("SMALL_S", "METRICS_S"):
        monkeypatch.setattr(web, name, 0.5)
    monkeypatch.setattr(web, "METRICS_BYTES", 10**6)
    pages = {"/metrics": page, "/health": page}
    with serving(pages=pages) as (url, _):
        begin = time.monotonic()
        with pytest.raises(CountersError, match="did not answer"):
            snapshot(url, 0)
        with pytest.raises(web.WebError):
            web.get(f"{url}/health", seconds=0.5)
        assert time.monotonic() - begin < 3
    with serving(pages={"/v1/models": lambda handler: page(handler)}) as (url, _):
        begin = time.monotonic()
        monkeypatch.setattr(web.get, "__kwdefaults__", {"seconds": 0.5, "most": web.SMALL_BYTES})
        with pytest.raises(ClientError, match="does not list a model"):
            Client(url)
        assert time.monotonic() - begin < 2


@pytest.mark.parametrize(
    "listed", [b"null", b"[]", b'{"data": null}', b'{"data": [null]}', b'{"data": [{"id": 3}]}', b"\xff"]
)
def test_an_odd_list_of_models_is_one_clear_error(listed):
    refused(sound(), "does not list a model", pages={"/v1/models": (200, listed)})


# -- what is sent --------------------------------------------------------------------------------------------------


def test_sampling_values_are_sent_where_the_study_has_them():
    _, body = ask(sound())
    assert "top_k" not in body and "min_p" not in body and body["min_tokens"] == 64
    _, body = ask(sound(), asked=cell(top_k=0, min_p=0.05))
    assert (body["top_k"], body["min_p"]) == (0, 0.05)


def test_llama_cpp_is_told_to_cache_and_think_nothing():
    _, body = ask(sound(), asked=cell("llama.cpp"))
    assert body["cache_prompt"] is False and body["chat_template_kwargs"] == {"enable_thinking": False}
    assert "min_tokens" not in body


def test_values_that_are_not_sent_leave_a_cells_identity():
    assert cell().id == cell(top_k=None).id != cell(top_k=64).id
    assert cell(min_p=0.0).id != cell().id
