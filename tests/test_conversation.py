"""What was said so far."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rtvc.errors import ProtocolError
from rtvc.server.replies.llm import Message
from rtvc.server.sessions import conversation as module
from rtvc.server.sessions.conversation import Conversation, Item, Role


def said(item_id: str, role: Role = "user", text: str | None = "hello") -> Item:
    return Item(item_id, role, text, spoken=True)


def ids(conversation: Conversation) -> list[str]:
    return [item.item_id for item in conversation]


@given(places=st.lists(st.integers(-1, 30), max_size=20))
def test_items_go_where_they_were_asked_to(places: list[int]) -> None:
    conversation, expected = Conversation(), list[str]()
    for number, place in enumerate(places):
        after = "root" if place < 0 else expected[place] if place < len(expected) else None
        at = 0 if after == "root" else len(expected) if after is None else place + 1
        before = conversation.add(said(str(number)), after=after)
        assert before == (expected[at - 1] if at else None)
        expected.insert(at, str(number))
    assert ids(conversation) == expected
    assert conversation.last_id == (expected[-1] if expected else None)


def test_mistakes_are_named() -> None:
    conversation = Conversation()
    conversation.add(said("a"))
    with pytest.raises(ProtocolError, match="'a', which is taken") as taken:
        conversation.add(said("a"))
    assert taken.value.code == "item_already_exists"
    for wrong in (lambda: conversation.get("b"), lambda: conversation.remove("b")):
        with pytest.raises(ProtocolError, match="got 'b'") as unknown:
            wrong()
        assert unknown.value.code == "item_not_found"
    with pytest.raises(ProtocolError, match="got 'nowhere'"):
        conversation.add(said("c"), after="nowhere")
    assert ids(conversation) == ["a"]


def test_the_oldest_are_forgotten_and_the_new_one_never(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_MAX_ITEMS", 3)
    conversation = Conversation()
    for name in "abcd":
        conversation.add(said(name))
    assert ids(conversation) == ["b", "c", "d"]
    conversation.add(said("e"), after="root")
    assert ids(conversation) == ["e", "c", "d"]


def test_a_change_to_what_is_gone_is_none() -> None:
    conversation = Conversation()
    assert conversation.update("a", text="x") is None
    conversation.add(said("a", text=None))
    changed = conversation.update("a", text="x")
    assert changed is not None
    assert conversation.get("a").text == "x"
    conversation.remove("a")
    assert conversation.find("a") is None
    conversation.add(said("b"))
    conversation.clear()
    assert len(conversation) == 0


def test_the_model_reads_what_has_a_text() -> None:
    conversation = Conversation()
    conversation.add(said("a", "user", "hi"))
    conversation.add(said("b", "user", None))
    conversation.add(said("c", "assistant", ""))
    conversation.add(Item("d", "user", None, False, wire={"type": "function_call"}))
    conversation.add(said("e", "assistant", "hello"))
    spoken = [Message("user", "hi"), Message("assistant", "hello")]
    assert conversation.messages("") == spoken
    assert conversation.messages("be brief") == [Message("system", "be brief"), *spoken]


@pytest.mark.parametrize(
    ("role", "spoken", "content"),
    [
        ("user", True, {"type": "input_audio", "transcript": "hi"}),
        ("user", False, {"type": "input_text", "text": "hi"}),
        ("system", False, {"type": "input_text", "text": "hi"}),
        ("assistant", True, {"type": "output_audio", "transcript": "hi"}),
        ("assistant", False, {"type": "output_text", "text": "hi"}),
    ],
)
def test_an_item_goes_over_the_wire(role: Role, spoken: bool, content: dict[str, str]) -> None:
    wire = Item("a", role, "hi", spoken, complete=False).to_wire()
    assert wire["content"] == [content]
    assert (wire["id"], wire["role"], wire["status"]) == ("a", role, "incomplete")


def test_what_the_client_gave_is_given_back() -> None:
    call = {"type": "function_call", "name": "lights", "arguments": "{}"}
    wire = Item("a", "user", None, False, wire=call).to_wire()
    assert wire == {**call, "id": "a", "object": "realtime.item"}
