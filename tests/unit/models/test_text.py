import json
from pathlib import Path

import numpy as np
import pytest

from bowerbird.errors import ArgumentInvalid, ModelFileCorrupt, ModelNotFound

onnx = pytest.importorskip("onnx")
pytest.importorskip("tokenizers")

from bowerbird.models.text import TextEncoder  # noqa: E402 (after the packages that it needs)

WORDS = ["[PAD]", "[UNK]", "red", "apple", "old", "horse"]
TABLE = np.array([[9, 9, 9], [0, 0, 1], [1, 0, 0], [0, 1, 0], [1, 1, 0], [0, 1, 1]], np.float32)


def write_model(path: Path, output: str = "tokens") -> Path:
    """A model whose token vectors are the rows of `TABLE`."""
    integers = onnx.TensorProto.INT64
    inputs = [
        onnx.helper.make_tensor_value_info(name, integers, ["N", "L"])
        for name in ("input_ids", "attention_mask", "token_type_ids")
    ]
    nodes = [
        onnx.helper.make_node("Gather", ["table", "input_ids"], ["looked_up"]),
        onnx.helper.make_node("Identity", ["looked_up"], [output]),
    ]
    outputs = [onnx.helper.make_tensor_value_info(output, onnx.TensorProto.FLOAT, ["N", "L", 3])]
    table = onnx.numpy_helper.from_array(TABLE, "table")
    graph = onnx.helper.make_graph(nodes, "g", inputs, outputs, [table])
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    """Model and tokenizer: a word is a token, and what is not known is `[UNK]`."""
    tokenizer = {
        "version": "1.0",
        "added_tokens": [],
        "normalizer": {"type": "Lowercase"},
        "pre_tokenizer": {"type": "Whitespace"},
        "padding": {
            "strategy": {"Fixed": 16},
            "direction": "Right",
            "pad_to_multiple_of": None,
            "pad_id": 0,
            "pad_type_id": 0,
            "pad_token": "[PAD]",
        },
        "model": {"type": "WordLevel", "vocab": {word: i for i, word in enumerate(WORDS)}, "unk_token": "[UNK]"},
    }
    path = tmp_path / "tokenizer.json"
    path.write_text(json.dumps(tokenizer))
    return write_model(tmp_path / "model.onnx"), path


def test_encode_is_the_mean_of_the_tokens_at_unit_length(files: tuple[Path, Path]) -> None:
    """Padding does not count, whatever stands beside a text in its batch; case does not either."""
    encoder = TextEncoder(*files, threads=1)
    vectors = encoder.encode(["Red apple", "horse", "red red old apple horse", "unheard"])

    expected = np.array([[1, 1, 0], [0, 1, 1], [3, 3, 1], [0, 0, 1]], np.float32)
    np.testing.assert_allclose(vectors, expected / np.linalg.norm(expected, axis=1, keepdims=True), atol=1e-6)
    assert (vectors.dtype, encoder.dimension) == (np.float32, 3)


def test_encode_keeps_the_order_of_many_texts(files: tuple[Path, Path]) -> None:
    """Texts are sorted by length into batches, and come back in their own order."""
    encoder = TextEncoder(*files, threads=1)
    generator = np.random.default_rng(0)
    texts = [" ".join(generator.choice(WORDS[2:], generator.integers(1, 9))) for _ in range(150)]
    alone = np.concatenate([encoder.encode([text]) for text in texts])
    np.testing.assert_allclose(encoder.encode(texts), alone, atol=1e-6)


def test_encode_cuts_long_texts(files: tuple[Path, Path]) -> None:
    """Words beyond the limit change nothing."""
    encoder = TextEncoder(*files, threads=1, max_tokens=2)
    np.testing.assert_array_equal(encoder.encode(["red apple horse horse"]), encoder.encode(["red apple"]))


def test_encode_of_nothing(files: tuple[Path, Path]) -> None:
    """No texts have no vectors; a blank text is refused with its position, since it has no direction."""
    encoder = TextEncoder(*files, threads=1)
    assert encoder.encode([]).shape == (0, 3)
    with pytest.raises(ArgumentInvalid, match=r"texts\[1\].*leave blank texts out"):
        encoder.encode(["red", " \n", "apple"])


def test_sha256_names_model_and_tokenizer(files: tuple[Path, Path]) -> None:
    """A change of either file is another encoder."""
    first = TextEncoder(*files, threads=1).sha256
    assert TextEncoder(*files, threads=1).sha256 == first
    files[1].write_text(files[1].read_text().replace("horse", "house"))
    second = TextEncoder(*files, threads=1).sha256
    write_model(files[0], output="other")
    assert len({first, second, TextEncoder(*files, threads=1).sha256}) == 3


def test_wrong_files_are_refused(files: tuple[Path, Path], tmp_path: Path) -> None:
    """A missing, a damaged and an unfitting file are told apart."""
    model, tokenizer = files
    with pytest.raises(ModelNotFound, match=r"nothing\.onnx"):
        TextEncoder(tmp_path / "nothing.onnx", tokenizer)
    with pytest.raises(ModelFileCorrupt, match="not a tokenizer"):
        TextEncoder(model, model)
    with pytest.raises(ModelFileCorrupt, match="not a model"):
        TextEncoder(tokenizer, tokenizer)
    picture_model = onnx.load(model)
    del picture_model.graph.input[1:]
    model.write_bytes(picture_model.SerializeToString())
    with pytest.raises(ModelFileCorrupt, match="expected inputs attention_mask"):
        TextEncoder(model, tokenizer)
