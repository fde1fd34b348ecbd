"""The networks for text: sizes, caches, mixers of the user's."""

import keras
import numpy as np
import pytest

from keras_attention import GatedConvolutionBlock
from keras_attention import LightweightConv1D
from keras_attention import MultiHeadAttention
from keras_attention.models import TransformerDecoderBlock
from keras_attention.models import TransformerEncoderBlock
from keras_attention.models import TransformerEncoderDecoder
from keras_attention.models import transformer_configuration
from keras_attention.models.transformer import ConvolutionMixer
from keras_attention.models.transformer import RecurrentMixer
from keras_attention.models.transformer import TokenEmbedding
from keras_attention.ops.attention.positions import sinusoidal_positions
from support.arrays import numpy
from support.networks import first_of
from support.transformers import MIXERS
from support.transformers import SOURCE
from support.transformers import TOKENS
from support.transformers import Average
from support.transformers import language_model
from support.transformers import mixers
from support.transformers import translator

SHARED = Average()


# Sizes


@pytest.mark.slow
@pytest.mark.parametrize(
    "layer, expected",
    [
        (MultiHeadAttention(16), 4_198_400),
        (GatedConvolutionBlock(16, 31), 3_149_296),
        (GatedConvolutionBlock(16, 31, glu=False), 2_099_696),
        (GatedConvolutionBlock(16, 31, "dynamic"), 3_656_704),
        (GatedConvolutionBlock(16, 31, "dynamic", glu=False), 2_607_104),
        (ConvolutionMixer(3), 2 * 1024 * 1024 * 3 + 2 * 1024),
        (RecurrentMixer(causal=True), 4 * 1024 * (2 * 1024 + 1)),
        (RecurrentMixer(), 2 * 4 * 512 * (1024 + 512 + 1)),
    ],
)
def test_a_block_has_its_mixers_parameters_and_its_own(layer, expected):
    block = TransformerEncoderBlock(layer, 4096)
    block.build((None, None, 1024))
    assert layer.count_params() == expected
    feed_forward = 2 * 1024 * 4096 + 4096 + 1024
    assert block.count_params() == expected + feed_forward + 2 * 2 * 1024


@pytest.mark.slow
def test_base_network_of_the_paper():
    # 65M with the shared vocabulary of 37,000 of Vaswani et al., table 3:
    # 44.1M in the blocks and 18.9M in the embedding, of which we have two.
    model = TransformerEncoderDecoder(
        37_000, 37_000, **transformer_configuration("base")
    )
    model.build([(None, None), (None, None)])
    attention = 4 * (512 * 512 + 512)
    feed_forward = 2 * 512 * 2048 + 2048 + 512
    encoder = attention + feed_forward + 2 * 1024
    decoder = 2 * attention + feed_forward + 3 * 1024
    assert model.count_params() == 6 * (encoder + decoder) + 2 * 37_000 * 512


@pytest.mark.parametrize(
    "size, glu, heads",
    [("base", True, 8), ("big", True, 16), ("iwslt", False, 4)],
)
def test_convolutional_configurations(size, glu, heads):
    found = transformer_configuration(size, "dynamic")
    assert found["num_encoder_blocks"] == 7
    assert found["num_decoder_blocks"] == 6
    assert found["encoder_kernel_sizes"] == (3, 7, 15, 31, 31, 31, 31)
    assert found["decoder_kernel_sizes"] == (3, 7, 15, 31, 31, 31)
    assert found["mixer_arguments"]["glu"] is glu
    assert found["num_heads"] == heads


@pytest.mark.parametrize(
    "size, mixer",
    [(size, mixer) for size in ("base", "big", "iwslt") for mixer in MIXERS],
)
def test_every_configuration_is_valid(size, mixer):
    arguments = transformer_configuration(size, mixer)
    # The layers are made, not built: that is what checks the arguments.
    model = TransformerEncoderDecoder(50, 60, **arguments)
    assert len(model.decoder_blocks) == 6
    with pytest.raises(ValueError, match="Did you mean 'big'"):
        transformer_configuration("bigg")


def published_parameters(mixer, width, heads, kernel, glu):
    """Of Wu et al.'s sublayer: dense d to d or 2d, convolution, dense."""
    if mixer == "attention":
        return 4 * (width * width + width)
    filters = heads * kernel * (width if mixer == "dynamic" else 1)
    dense = (3 if glu else 2) * (width * width + width)
    return dense + filters


@pytest.mark.slow
@pytest.mark.parametrize("mixer", ["attention", "lightweight", "dynamic"])
@pytest.mark.parametrize(
    "size, width, heads, glu",
    [
        ("base", 512, 8, True),
        ("big", 1024, 16, True),
        ("iwslt", 512, 4, False),
    ],
)
def test_sublayers_of_the_configurations(size, width, heads, glu, mixer):
    model = TransformerEncoderDecoder(
        50, 60, **transformer_configuration(size, mixer)
    )
    for blocks in (model.encoder_blocks, model.decoder_blocks):
        for block, kernel in zip(blocks, (3, 7, 15, *[31] * 4), strict=False):
            # The first and the last suffice: a network of each size is big.
            if kernel not in (3, 31) or block.mixer.built:
                continue
            block.mixer.build((None, None, width))
            assert block.mixer.count_params() == published_parameters(
                mixer, width, heads, kernel, glu
            )
    assert published_parameters("dynamic", 1024, 16, 31, True) == 3_656_704
    assert published_parameters("lightweight", 1024, 16, 31, False) == 2_099_696


# Positions and embeddings


def test_sinusoids_by_hand():
    found = numpy(sinusoidal_positions(np.array([0, 3]), 4))
    expected = [
        [0, 1, 0, 1],
        [np.sin(3), np.cos(3), np.sin(0.03), np.cos(0.03)],
    ]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_embedding_scales_and_starts_anywhere():
    layer = TokenEmbedding(11, 6)
    whole = numpy(layer(TOKENS))
    table = numpy(layer.embeddings)
    expected = 6**0.5 * table[TOKENS] + numpy(
        sinusoidal_positions(np.arange(7), 6)
    )
    np.testing.assert_allclose(whole, expected, rtol=1e-5, atol=1e-6)
    rest = layer(TOKENS[:, 4:], start=np.array([4, 4]))
    np.testing.assert_allclose(numpy(rest), whole[:, 4:], atol=1e-6)
    logits = numpy(layer.to_logits(whole))
    np.testing.assert_allclose(logits, whole @ table.T, atol=1e-5)
    assert (numpy(layer.compute_mask(SOURCE)) == (SOURCE > 0)).all()


# A block against NumPy


def norm(x, layer):
    scale, shift = numpy(layer.gamma), numpy(layer.beta)
    centered = x - x.mean(-1, keepdims=True)
    return centered / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * scale + shift


def feed_forward(x, block):
    hidden = x @ numpy(block.expand.kernel) + numpy(block.expand.bias)
    hidden = np.maximum(hidden, 0)
    return hidden @ numpy(block.project.kernel) + numpy(block.project.bias)


@pytest.mark.parametrize("norm_first", [False, True])
def test_block_is_the_papers(norm_first):
    generator = np.random.default_rng(0)
    x, memory = generator.normal(size=(2, 3, 5, 8))
    mixer = LightweightConv1D(2, 3, causal=True)
    attention = MultiHeadAttention(2)
    block = TransformerDecoderBlock(
        mixer, attention, 11, norm_first=norm_first, dtype="float64"
    )
    block.build(x.shape, memory.shape)
    for variable in block.trainable_variables:
        variable.assign(generator.normal(size=variable.shape) * 0.5)
    parts = [
        (block.mixer_norm, lambda y: numpy(mixer(y))),
        (block.cross_norm, lambda y: numpy(attention(y, memory))),
        (block.feed_forward_norm, lambda y: feed_forward(y, block)),
    ]
    expected = x
    for layer, part in parts:
        if norm_first:
            expected = expected + part(norm(expected, layer))
        else:
            expected = norm(expected + part(expected), layer)
    np.testing.assert_allclose(
        numpy(block(x, memory)), expected, rtol=1e-4, atol=1e-4
    )


# Masks and causality


@mixers
def test_padding_changes_nothing(mixer):
    model = translator(mixer)
    target = TOKENS[:1]
    short = numpy(model([SOURCE[:1, :3], target]))
    padded_target = np.pad(target, ((0, 0), (0, 2)))
    padded = numpy(model([SOURCE[:1], padded_target]))[:, :7]
    np.testing.assert_allclose(padded, short, atol=1e-5)


@mixers
def test_no_position_sees_a_later_one(mixer):
    model = language_model(mixer)
    other = TOKENS.copy()
    other[:, 4:] = 10
    a, b = numpy(model(TOKENS)), numpy(model(other))
    np.testing.assert_allclose(a[:, :4], b[:, :4], atol=1e-6)
    assert np.abs(a[:, 4:] - b[:, 4:]).max() > 1e-3


def test_a_mixer_without_masks_gets_zeros():
    seen = []

    class Spy(keras.layers.Layer):
        def call(self, inputs):
            seen.append(numpy(inputs))
            return inputs

    block = TransformerEncoderBlock(Spy(), 4)
    x = np.ones((2, 3, 4), "float32")
    block(x, mask=np.array([[1, 1, 0], [1, 1, 1]], "bool"))
    assert seen[-1][0, 2].max() == 0 and seen[-1][1].min() == 1


# Caches


@mixers
@pytest.mark.parametrize("norm_first", [False, True])
def test_caches_equal_the_full_pass(mixer, norm_first):
    model = language_model(mixer, norm_first=norm_first)
    expected = numpy(model(TOKENS))
    cache = model.initial_cache(2, 7)
    parts = []
    for start, stop in ((0, 3), (3, 4), (4, 6), (6, 7)):
        logits, cache = model(TOKENS[:, start:stop], cache=cache)
        parts.append(numpy(logits))
    np.testing.assert_allclose(
        np.concatenate(parts, axis=1), expected, atol=1e-5
    )
    assert numpy(cache["position"]).tolist() == [7, 7]


@mixers
def test_caches_equal_the_full_pass_where_tokens_are_masked(mixer):
    """At the masked positions too: an output there depends on no step."""
    model = language_model(mixer)
    given = np.array([[3, 4, 0, 0, 5, 6, 7], [0, 0, 2, 3, 0, 4, 5]])
    expected = numpy(model(given))
    for ends in ([1, 2, 3, 4, 5, 6, 7], [2, 7], [4, 4, 7]):
        cache, start, parts = model.initial_cache(2, 7), 0, []
        for end in ends:
            logits, cache = model(given[:, start:end], cache=cache)
            parts.append(numpy(logits))
            start = end
        np.testing.assert_allclose(
            np.concatenate(parts, axis=1), expected, atol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("once", "mixer"),
    # The memory is of the attention to the source, whatever mixes before it.
    first_of(
        [(once, mixer) for once in (False, True) for mixer in MIXERS],
        len(MIXERS) + 1,
    ),
)
def test_decoder_caches_equal_the_full_pass(mixer, once):
    model = translator(mixer)
    expected = numpy(model([SOURCE, TOKENS]))
    if once:
        memory, mask = model.encode_memory(SOURCE), None
        whole = model.decode(TOKENS, memory)
        np.testing.assert_allclose(numpy(whole), expected, atol=1e-5)
    else:
        memory, mask = model.encode(SOURCE), SOURCE > 0
    cache = model.initial_cache(2, 7)
    for step in range(7):
        logits, cache = model.decode(
            TOKENS[:, step : step + 1], memory, mask, cache
        )
        np.testing.assert_allclose(
            numpy(logits)[:, 0], expected[:, step], atol=1e-5
        )


@pytest.mark.slow
@pytest.mark.parametrize("beam_size", [1, 3])
def test_the_encoder_is_projected_once_for_a_translation(
    monkeypatch, beam_size
):
    model = translator("attention")
    model([SOURCE, TOKENS])
    calls = []
    for block in model.decoder_blocks:
        dense = block.cross_attention.key_dense
        monkeypatch.setattr(
            dense,
            "call",
            lambda x, call=dense.call: calls.append(tuple(x.shape)) or call(x),
        )
    model.translate(SOURCE, 2, 3, 4, beam_size)
    assert calls == [(len(SOURCE), SOURCE.shape[1], 16)] * len(
        model.decoder_blocks
    )


def test_what_a_memory_of_a_block_goes_with():
    block = TransformerDecoderBlock(
        LightweightConv1D(2, 3, causal=True),
        MultiHeadAttention(2),
        12,
    )
    x, encoded = np.ones((2, 3, 8), "float32"), np.ones((2, 5, 8), "float32")
    encoded[:, 3:] = np.nan
    mask = np.arange(5) < [[3], [2]]
    expected = numpy(block(x, encoded, memory_mask=mask))
    memory = block.encode_memory(encoded, mask)
    np.testing.assert_allclose(numpy(block(x, memory)), expected, atol=1e-6)
    with pytest.raises(ValueError, match="has its mask.*memory_mask of shape"):
        block(x, memory, memory_mask=mask)
    other = TransformerDecoderBlock(
        LightweightConv1D(2, 3, causal=True), Average(), 12
    )
    with pytest.raises(ValueError, match="must have `encode_memory`.*Average"):
        other.encode_memory(encoded, mask)


# Saving, training, exporting


@pytest.mark.parametrize("mixer", [*MIXERS, Average])
@pytest.mark.parametrize("norm_first", first_of([False, True], 1))
def test_language_model_saves_and_loads(mixer, norm_first, tmp_path):
    model = language_model(mixer, norm_first=norm_first)
    config = model.get_config()
    expected = numpy(model(TOKENS))
    assert model.get_config() == config
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    np.testing.assert_allclose(numpy(loaded(TOKENS)), expected, atol=1e-6)
    assert loaded.get_config() == config


@pytest.mark.slow
@mixers
def test_encoder_decoder_saves_and_loads(mixer, tmp_path):
    model = translator(mixer)
    expected = numpy(model([SOURCE, TOKENS]))
    model.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    found = numpy(loaded([SOURCE, TOKENS]))
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert loaded.get_config() == model.get_config()


@pytest.mark.slow
@mixers
def test_training_lowers_the_loss(mixer):
    model = language_model(mixer, dropout=0.0)
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=0
    )
    model.compile(keras.optimizers.Adam(0.01), loss, jit_compile=False)
    history = model.fit(
        TOKENS[:, :-1], TOKENS[:, 1:], epochs=12, verbose=0
    ).history["loss"]
    assert history[-1] < 0.7 * history[0]


def test_padding_is_no_part_of_the_loss():
    loss = keras.losses.SparseCategoricalCrossentropy(
        from_logits=True, ignore_class=0
    )
    model = language_model()
    model.compile("sgd", loss, run_eagerly=True)
    x, y = TOKENS[:1, :4], TOKENS[:1, 1:5]
    padded = [np.pad(a, ((0, 0), (0, 3))) for a in (x, y)]
    a = model.evaluate(x, y, verbose=0)
    b = model.evaluate(*padded, verbose=0)
    np.testing.assert_allclose(a, b, rtol=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "mixer"),
    first_of(
        [("float64", "attention")]
        + [("mixed_float16", mixer) for mixer in MIXERS]
        + [("float64", mixer) for mixer in MIXERS[1:]]
        + [("mixed_bfloat16", mixer) for mixer in MIXERS],
        1 + len(MIXERS),
    ),
)
def test_precisions(mixer, dtype):
    model = language_model(mixer, dtype=dtype)
    logits = model(TOKENS)
    wanted = "float64" if dtype == "float64" else "float32"
    assert keras.backend.standardize_dtype(logits.dtype) == wanted
    assert np.isfinite(numpy(logits)).all()
    assert model.generate(TOKENS[:, :2], 2)[0].tokens


@pytest.mark.slow
@pytest.mark.tensorflow
@mixers
def test_exported_model_takes_any_length(mixer, tmp_path):
    import tensorflow as tf

    model = language_model(mixer)
    expected = numpy(model(TOKENS))
    model.export(
        str(tmp_path / "m"),
        input_signature=[tf.TensorSpec((None, None), "int32")],
        verbose=False,
    )
    loaded = tf.saved_model.load(str(tmp_path / "m"))
    for length in (7, 4):
        found = loaded.serve(TOKENS[:, :length].astype("int32")).numpy()
        np.testing.assert_allclose(found, expected[:, :length], atol=1e-5)


# What cannot be


@pytest.mark.parametrize(
    "call, message",
    [
        (lambda: language_model("atention"), "Did you mean 'attention'"),
        (lambda: language_model(kernel_sizes=(3,)), r"\(3,\) for 2 blocks"),
        (lambda: language_model(Average, mixer_arguments={"a": 1}), "named"),
        (lambda: language_model([Average()]), "Received: 1 layers"),
        (lambda: language_model(lambda: 3), "new keras layer each time"),
        (lambda: language_model(lambda: SHARED), "new keras layer each time"),
        (lambda: language_model(width=15), "must be even"),
        (lambda: language_model(num_blocks=0), "`num_blocks`"),
        (lambda: language_model(feed_forward_dim=0), "`feed_forward_dim`"),
        (lambda: language_model(dropout=1.0), "`dropout`"),
        (lambda: language_model(positions="learned"), "`positions`"),
        (lambda: translator(Average), "decoder_mixer=None"),
        (lambda: translator(num_decoder_blocks=0), "`num_decoder_blocks`"),
        (lambda: TransformerEncoderBlock("attention", 4), "`mixer`"),
        (
            lambda: TransformerDecoderBlock(Average(), Average, 4),
            "`cross_attention`",
        ),
        (lambda: ConvolutionMixer(0), "`kernel_size`"),
        (lambda: ConvolutionMixer(3, filters=0), "`filters`"),
        (lambda: ConvolutionMixer(3).initial_cache(2), "causal=False"),
        (lambda: RecurrentMixer(units=0), "`units`"),
        (lambda: RecurrentMixer(units=3)(np.ones((1, 2, 4))), "units=3"),
        (lambda: RecurrentMixer(causal=True).initial_cache(1), "built=False"),
        (lambda: language_model(Average).initial_cache(2, 3), "type Average"),
        (lambda: language_model().generate([[2, 0]], 3), "1 zeros"),
        (lambda: language_model().generate([[2]], 0), "`max_new_tokens`"),
        (lambda: language_model().generate([[2]], 2, beam_size=0), "beam_size"),
        (
            lambda: language_model().generate([[2]], 2, length_penalty=-1.0),
            "`length_penalty`",
        ),
    ],
)
def test_bad_arguments(call, message):
    with pytest.raises((TypeError, ValueError), match=message):
        call()
