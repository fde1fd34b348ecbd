"""Types of arguments and results.

They say in a signature what is meant. Keras has no types of its own, so that a
checker takes most of them for `Any`.

- `Tensor`: a tensor of the backend, a NumPy array, or a `keras.KerasTensor` of
  a functional model.
- `Shape`: sizes, `None` where one is not known.
- `Cache`: what `initial_cache` returns, for decoding token by token.
- `InitializerLike`, `RegularizerLike`, `ConstraintLike`: what the `get` of
  their module in Keras takes.
- `DTypeLike`: the name of a dtype or of a dtype policy, or a policy.
"""

from collections.abc import Callable
from typing import Any
from typing import TypeAlias

import keras

Tensor: TypeAlias = keras.KerasTensor
Shape: TypeAlias = tuple[int | None, ...]
Cache: TypeAlias = dict[str, Any]
InitializerLike: TypeAlias = (
    str | dict[str, Any] | keras.initializers.Initializer | Callable | None
)
RegularizerLike: TypeAlias = (
    str | dict[str, Any] | keras.regularizers.Regularizer | Callable | None
)
ConstraintLike: TypeAlias = (
    str | dict[str, Any] | keras.constraints.Constraint | Callable | None
)
DTypeLike: TypeAlias = str | dict[str, Any] | keras.DTypePolicy | None
