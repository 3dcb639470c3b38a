"""One line for what went wrong."""

from rllib_mec.errors import one_line


def test_a_long_message_keeps_what_failed_and_why():
    text = one_line(RuntimeError(f"the server cannot start: {'x' * 1000}\ndisk full"))
    assert len(text) <= 400
    assert text.startswith("the server cannot start: xxx")
    assert text.endswith("xxx disk full")
    assert one_line(ValueError("a\n b")) == "a b"
