import pickle

from foretaste.kernel.errors import InvalidInput


def test_an_invalid_input_crosses_a_process_pool_whole() -> None:
    error = InvalidInput("seeds", "one", "expected a number")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own
    assert (type(copy), str(copy)) == (InvalidInput, str(error))
    assert (copy.field, copy.value, copy.problem) == ("seeds", "one", "expected a number")
