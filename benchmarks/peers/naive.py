"""Our image layers as a user composes them of Keras' own layers.

Each function takes our built layer and returns a call, of an image and of
`training`, and its layers with weights in the order of ours.
"""

import math

from keras import layers
from keras import ops


def squeeze_excite(ours):
    reduce = layers.Dense(ours.reduce.units, activation="relu")
    expand = layers.Dense(ours.expand.units, activation="sigmoid")
    pool = layers.GlobalAveragePooling2D(keepdims=True)

    def call(x, training):
        return layers.multiply([x, expand(reduce(pool(x)))])

    return call, [reduce, expand]


def effective_squeeze_excite(ours):
    excite = layers.Dense(ours.excite.units, activation="hard_sigmoid")
    pool = layers.GlobalAveragePooling2D(keepdims=True)
    return lambda x, training: layers.multiply([x, excite(pool(x))]), [excite]


def spatial_squeeze_excite(ours):
    squeeze = layers.Conv2D(1, 1, activation="sigmoid")
    return lambda x, training: layers.multiply([x, squeeze(x)]), [squeeze]


def concurrent_squeeze_excite(ours):
    channel, one = squeeze_excite(ours.channel_excite)
    spatial, other = spatial_squeeze_excite(ours.spatial_excite)

    def call(x, training):
        return layers.maximum([channel(x, training), spatial(x, training)])

    return call, one + other


def efficient_channel_attention(ours):
    pool = layers.GlobalAveragePooling2D()
    size = ours.excite.kernel.shape[0]
    conv = layers.Conv1D(1, size, padding="same", use_bias=False)

    def call(x, training):
        gate = ops.sigmoid(conv(pool(x)[..., None]))
        return x * gate[:, None, None, :, 0]

    return call, [conv]


def gated_channel_transformation(ours):
    def call(x, training):
        sizes = ops.sqrt(ops.sum(x**2, (1, 2), True) + ours.epsilon)
        sizes = ours.alpha * sizes
        mean = ops.mean(sizes**2, -1, True)
        sizes = sizes / ops.sqrt(mean + ours.epsilon)
        return x * (1 + ops.tanh(ours.gamma * sizes + ours.beta))

    return call, [ours]


def channel_attention(ours):
    reduce = layers.Dense(ours.reduce.units, "relu")
    expand = layers.Dense(ours.expand.units)
    mean = layers.GlobalAveragePooling2D(keepdims=True)
    maximum = layers.GlobalMaxPooling2D(keepdims=True)

    def call(x, training):
        logits = expand(reduce(mean(x))) + expand(reduce(maximum(x)))
        return x * ops.sigmoid(logits)

    return call, [reduce, expand]


def spatial_attention(ours):
    conv, norm = _conv_norm(ours.kernel_size)

    def call(x, training):
        maps = [ops.max(x, -1, True), ops.mean(x, -1, True)]
        logits = norm(conv(layers.concatenate(maps)), training=training)
        return x * ops.sigmoid(logits)

    return call, [conv, norm]


def cbam(ours):
    channel, one = channel_attention(ours.channel_attention)
    spatial, other = spatial_attention(ours.spatial_attention)

    def call(x, training):
        return spatial(channel(x, training), training)

    return call, one + other


def bam(ours):
    units, channels = ours.channel_reduce.units, ours.channel_expand.units
    pool = layers.GlobalAveragePooling2D(keepdims=True)
    reduce, expand = layers.Dense(units), layers.Dense(channels)
    channel_norm = layers.BatchNormalization(epsilon=1e-5)
    convs, norms = [], []
    for size, dilation in ((1, 1), (3, ours.dilation), (3, ours.dilation)):
        convs.append(
            layers.Conv2D(units, size, padding="same", dilation_rate=dilation)
        )
        norms.append(layers.BatchNormalization(epsilon=1e-5))
    last = layers.Conv2D(1, 1)

    def call(x, training):
        y = channel_norm(reduce(pool(x)), training=training)
        channel, y = expand(ops.relu(y)), x
        for conv, norm in zip(convs, norms, strict=True):
            y = ops.relu(norm(conv(y), training=training))
        return x * (1 + ops.sigmoid(channel * last(y)))

    spatial = [part for pair in zip(convs, norms, strict=True) for part in pair]
    return call, [reduce, channel_norm, expand, *spatial, last]


def gather_excite(ours):
    """Pooling or strided convolutions, nearest resizing, product."""
    extent, parts = ours.extent, []
    if ours.learned_gather:
        for conv in ours.convolutions:
            size = conv.kernel_size
            strides = 1 if extent is None else 2
            parts += [
                layers.DepthwiseConv2D(size, strides, use_bias=False),
                layers.BatchNormalization(epsilon=1e-5),
            ]
    elif extent is None:
        average = layers.GlobalAveragePooling2D(keepdims=True)
    else:
        average = layers.AveragePooling2D(2 * extent - 1, extent)
    pad = layers.ZeroPadding2D(1 if ours.learned_gather else (extent or 1) - 1)

    def gather(x, training):
        if ours.learned_gather:
            for number in range(0, len(parts), 2):
                conv, norm = parts[number : number + 2]
                x = ops.relu(x) if number else x
                x = norm(conv(pad(x) if extent else x), training=training)
            return x
        if extent is None:
            return average(x)
        inside = average(pad(ops.ones_like(x[:1, :, :, :1])))
        return average(pad(x)) / inside

    excite = []
    if ours.learned_excite:
        excite = [
            layers.Dense(ours.reduce.units, activation="relu"),
            layers.Dense(ours.expand.units),
        ]

    def call(x, training):
        gate = gather(x, training)
        if excite and parts:
            gate = ops.relu(gate)
        for dense in excite:
            gate = dense(gate)
        if extent is not None:
            gate = layers.UpSampling2D(extent)(gate)
        return x * ops.sigmoid(gate)

    return call, parts + excite


def channel_gsop(ours):
    channels, width = ours.expand.units, ours.reduced_channels
    reduce = layers.Conv2D(width, 1, ours.strides)
    norm, row_norm = _gsop_norms()
    # The filters of each row, as a depthwise convolution over its entries.
    rows = layers.DepthwiseConv2D(
        (width, 1), depth_multiplier=ours.expansion, name="rows"
    )
    expand = layers.Dense(channels, "sigmoid")

    def call(x, training):
        y = ops.relu(norm(reduce(ops.relu(x)), training=training))
        y = layers.Reshape((-1, width))(y)  # [B, M, d]
        y = y - ops.mean(y, 1, True)
        covariance = ops.matmul(ops.transpose(y, (0, 2, 1)), y) / y.shape[1]
        y = row_norm(covariance, training=training)  # [B, i, j]
        y = rows(ops.transpose(y, (0, 2, 1))[:, :, None])  # [B, 1, 1, i n]
        return x * expand(y)

    return call, [reduce, norm, row_norm, rows, expand]


def position_gsop(ours):
    size, width = ours.grid_size, ours.reduced_channels
    reduce = layers.Conv2D(width, 1)
    norm, row_norm = _gsop_norms()
    rows = layers.DepthwiseConv2D(
        (size**2, 1), depth_multiplier=ours.expansion, name="rows"
    )
    expand = layers.Dense(size**2, "sigmoid")

    def call(x, training):
        y = norm(reduce(ops.relu(x)), training=training)
        height, width = (length // size for length in y.shape[1:3])
        y = layers.AveragePooling2D((height, width))(y)
        y = layers.Reshape((size**2, -1))(y)  # [B, P, d]
        y = y - ops.mean(y, -1, True)
        covariance = ops.matmul(y, ops.transpose(y, (0, 2, 1))) / y.shape[-1]
        y = row_norm(covariance, training=training)  # [B, i, j]
        y = rows(ops.transpose(y, (0, 2, 1))[:, :, None])  # [B, 1, 1, i n]
        gate = layers.Reshape((size, size, 1))(expand(ops.relu(y)))
        gate = layers.UpSampling2D((height, width))(gate)
        return ops.relu(x * gate)

    return call, [reduce, norm, row_norm, rows, expand]


def gsop(ours):
    channel, one = channel_gsop(ours.channel_gsop)
    position, other = position_gsop(ours.position_gsop)

    def call(x, training):
        return layers.average([channel(x, training), position(x, training)])

    return call, one + other


def coordinate_attention(ours):
    reduce = layers.Conv2D(ours.reduce.units, 1)
    norm = layers.BatchNormalization(epsilon=1e-5)
    channels = ours.expand_height.units
    heights, widths = (layers.Conv2D(channels, 1) for _ in range(2))

    def call(x, training):
        rows = ops.mean(x, 2, True)  # [B, H, 1, C]
        columns = ops.transpose(ops.mean(x, 1, True), (0, 2, 1, 3))
        y = reduce(layers.concatenate([rows, columns], 1))
        y = ops.hard_silu(norm(y, training=training))
        rows, columns = ops.split(y, [x.shape[1]], 1)
        columns = ops.transpose(columns, (0, 2, 1, 3))
        rows, columns = heights(rows), widths(columns)
        return x * ops.sigmoid(rows) * ops.sigmoid(columns)

    return call, [reduce, norm, heights, widths]


def global_context(ours):
    attention = layers.Conv2D(1, 1, use_bias=False)
    reduce = layers.Dense(ours.reduce.units)
    norm = layers.LayerNormalization(epsilon=1e-5)
    expand = layers.Dense(ours.expand.units)

    def call(x, training):
        channels = x.shape[-1]
        scores = ops.softmax(layers.Reshape((1, -1))(attention(x)))
        context = ops.matmul(scores, layers.Reshape((-1, channels))(x))
        term = expand(ops.relu(norm(reduce(context))))  # [B, 1, C]
        if ours.fusion == "multiply":
            return x * ops.sigmoid(term[:, None])
        return x + term[:, None]

    return call, [attention, reduce, norm, expand]


def simam(ours):
    def call(x, training):
        freedom = x.shape[1] * x.shape[2] - 1
        squares = ops.square(x - ops.mean(x, (1, 2), True))
        variance = ops.sum(squares, (1, 2), True) / freedom
        energy = squares / (4 * (variance + ours.regularization)) + 0.5
        return x * ops.sigmoid(energy)

    return call, []


def triplet_attention(ours):
    convs, norms = zip(
        *(_conv_norm(ours.kernel_size) for _ in range(3)), strict=True
    )

    def branch(number, x, training):
        maps = [ops.max(x, -1, True), ops.mean(x, -1, True)]
        logits = convs[number](layers.concatenate(maps))
        return x * ops.sigmoid(norms[number](logits, training=training))

    def call(x, training):
        # The axis that a branch pools is brought to the end, and back.
        turns = [(0, 3, 2, 1), (0, 1, 3, 2), (0, 1, 2, 3)]
        branches = [
            ops.transpose(
                branch(number, ops.transpose(x, turn), training), turn
            )
            for number, turn in enumerate(turns)
        ]
        return layers.average(branches)

    return call, [*convs, *norms]


def selective_kernel(ours):
    filters = ours.expand.units // len(ours.dilations)
    convs, norms = [], []
    for dilation in ours.dilations:
        convs.append(
            layers.Conv2D(
                filters,
                3,
                padding="same",
                dilation_rate=dilation,
                groups=ours.groups,
                use_bias=False,
            )
        )
        norms.append(layers.BatchNormalization(epsilon=1e-5))
    pool = layers.GlobalAveragePooling2D()
    reduce = layers.Dense(ours.reduce.units, use_bias=False)
    reduce_norm = layers.BatchNormalization(epsilon=1e-5)
    expand = layers.Dense(ours.expand.units, use_bias=False)

    def call(x, training):
        branches = [
            ops.relu(norm(conv(x), training=training))
            for conv, norm in zip(convs, norms, strict=True)
        ]
        squeezed = pool(layers.add(branches))
        hidden = ops.relu(reduce_norm(reduce(squeezed), training=training))
        logits = layers.Reshape((len(branches), 1, 1, filters))(expand(hidden))
        scores = ops.unstack(ops.softmax(logits, 1), axis=1)
        return sum(u * s for u, s in zip(branches, scores, strict=True))

    parts = [part for pair in zip(convs, norms, strict=True) for part in pair]
    return call, [*parts, reduce, reduce_norm, expand]


def non_local(ours):
    width, channels = ours.value.units, ours.project.units
    value, query = layers.Conv2D(width, 1), layers.Conv2D(width, 1)
    key = layers.Conv2D(width, 1, use_bias=False)
    project = layers.Conv2D(channels, 1)
    norm = layers.BatchNormalization(epsilon=1e-5)
    pool = layers.MaxPooling2D()

    def call(x, training):
        rows = layers.Reshape((-1, width))
        pooled = pool(x)
        products = ops.matmul(
            rows(query(x)), ops.transpose(rows(key(pooled)), (0, 2, 1))
        )
        scores = ops.softmax(products / math.sqrt(width))
        y = ops.matmul(scores, rows(value(pooled)))
        y = layers.Reshape((*x.shape[1:3], width))(y)
        return layers.add([x, norm(project(y), training=training)])

    return call, [value, query, key, project, norm]


def _conv_norm(kernel_size):
    conv = layers.Conv2D(1, kernel_size, padding="same", use_bias=False)
    return conv, layers.BatchNormalization(epsilon=1e-5)


def _gsop_norms():
    return (
        layers.BatchNormalization(epsilon=1e-5),
        layers.BatchNormalization(axis=1, epsilon=1e-5),
    )
