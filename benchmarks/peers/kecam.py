"""keras_cv_attention_models' blocks. For a process with LEGACY_KERAS.

It has no CBAM, and of our other layers the blocks below.
"""

import tensorflow as tf
import tf_keras
from keras_cv_attention_models import attention_layers
from keras_cv_attention_models.cspnext import cspnext

BLOCKS = {
    "SqueezeExcite": lambda x: attention_layers.se_module(
        x, se_ratio=1 / 16, divisor=1
    ),
    "EffectiveSqueezeExcite": cspnext.channel_attention,
    "EfficientChannelAttention": attention_layers.eca_module,
    "GlobalContext, multiply": lambda x: attention_layers.global_context_module(
        x, ratio=1 / 16
    ),
}


def case(name, x, weights, upstream=None):
    """One pass of a block. With `upstream` gradients are given too.

    Args:
        name: a key of `BLOCKS`.
        x: image, channels last.
        weights: ours.
        upstream: gradient of the output.
    """
    image = tf_keras.Input(x.shape[1:])
    model = tf_keras.Model(image, BLOCKS[name](image))
    variables = list(model.trainable_variables)
    if name.startswith("GlobalContext"):
        # A bias before a softmax: it has no effect, and we have none.
        variables.pop(1).assign([0])
    for variable, weight in zip(variables, weights, strict=True):
        variable.assign(weight.reshape(variable.shape))
    x = tf.constant(x)
    if upstream is None:
        forward = tf.function(model)
        return lambda: [forward(x)]
    upstream = tf.constant(upstream)

    @tf.function
    def step(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            y = model(x, training=True)
        return y, *tape.gradient(y, [x, *variables], upstream)

    return lambda: step(x)
