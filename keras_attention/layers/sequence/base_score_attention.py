"""What attention with learned or unscaled scores shares: AdditiveAttention
and LuongAttention."""

from typing import Any

import keras
from keras import ops

from keras_attention.layers.input_lists import is_list_of_masks
from keras_attention.layers.input_lists import split_inputs
from keras_attention.layers.input_lists import split_masks
from keras_attention.layers.weighted_layer import KernelLayer
from keras_attention.ops.attention.axes import AttentionAxes
from keras_attention.ops.attention.masks import check_sequence_mask
from keras_attention.ops.attention.masks import combine_masks
from keras_attention.ops.attention.masks import replace_masked
from keras_attention.ops.attention.masks import to_boolean_mask
from keras_attention.ops.attention.scores import masked_softmax
from keras_attention.ops.attention.scores import weighted_mean
from keras_attention.ops.precision import to_float
from keras_attention.types import Shape
from keras_attention.types import Tensor
from keras_attention.validation import check_is_shape
from keras_attention.validation import check_probability
from keras_attention.validation import check_seed


class BaseScoreAttention(KernelLayer):
    """Base of `AdditiveAttention` and `LuongAttention`.

    A subclass implements `build_scores` and `compute_scores`. Lists and
    single tensors, further axes, masks, the softmax and dropout are here.

    Args:
        dropout: Float, rate at which scores are dropped in training.
        seed: Integer seed of the dropout.
        **kwargs: Passed on to the next class.
    """

    def __init__(
        self, dropout: float = 0.0, seed: int | None = None, **kwargs: Any
    ):
        super().__init__(**kwargs)
        self.supports_masking = True
        self.dropout = check_probability("dropout", dropout)
        self.seed = check_seed(seed)
        if self.dropout:
            self.seed_generator = keras.random.SeedGenerator(self.seed)

    def build_scores(self, query_width: int, key_width: int) -> None:
        """Make the weights for queries and keys of these widths."""
        raise NotImplementedError

    def compute_scores(self, query: Tensor, key: Tensor) -> Any:
        """Return the scores before the softmax, `(B, T, S)`."""
        raise NotImplementedError

    def build(
        self,
        query_shape: Any,
        value_shape: Shape | None = None,
        key_shape: Shape | None = None,
    ) -> None:
        shapes = self._complete_shapes(query_shape, value_shape, key_shape)
        self._check_shapes(*shapes)
        self._widths = shapes[0][-1], shapes[2][-1]
        if not all(width and width > 0 for width in self._widths):
            raise ValueError(
                f"{type(self).__name__} needs defined widths of query and key, "
                "at least 1, to make its weights. Received: query of shape "
                f"{shapes[0]}, key of shape {shapes[2]} for layer "
                f"'{self.name}'. Give the inputs' last dimension."
            )
        self.build_scores(*self._widths)

    def call(
        self,
        query: Any,
        value: Tensor | None = None,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        query, value, key = self._complete(query, value, key)
        query_mask, key_mask = self._masks(
            query, value, query_mask, value_mask, key_mask, mask
        )
        self._check_shapes(*(tuple(x.shape) for x in (query, value, key)))
        query_shape, key_shape = ops.shape(query), ops.shape(key)
        # Each position of further axes is a row of the batch.
        axes = AttentionAxes(len(query_shape), (len(query_shape) - 2,))
        if axes.rank > 3:
            query, value, key = (axes.fold(x) for x in (query, value, key))
            query_mask, key_mask = (
                None if each is None else axes.fold(each)
                for each in (query_mask, key_mask)
            )
        query, value, key = self._to_floats(query, value, key)
        if query_mask is not None:
            query = replace_masked(query, query_mask)
        allowed = None
        if key_mask is not None:
            key = replace_masked(key, key_mask)
            value = replace_masked(value, key_mask)
            allowed = ops.expand_dims(key_mask, 1)  # [B, 1, S]
        if query_mask is not None:
            allowed = combine_masks(allowed, ops.expand_dims(query_mask, 2))
        if use_causal_mask:
            queries, keys = (
                ops.arange(ops.shape(x)[1], dtype="int32") for x in (query, key)
            )
            allowed = combine_masks(allowed, queries[:, None] >= keys)
            # Keys that no query attends to may hold anything.
            reached = ops.expand_dims(keys < ops.shape(query)[1], 0)
            key = replace_masked(key, reached)
            value = replace_masked(value, reached)
        scores = self.compute_scores(query, key)  # [B, T, S]
        scores = masked_softmax(scores, allowed)
        weights = scores
        if training and self.dropout:
            weights = keras.random.dropout(
                scores, self.dropout, seed=self.seed_generator
            )
        output = weighted_mean(weights, value)  # [B, T, E]
        if axes.rank > 3:
            output = axes.unfold(output, query_shape)
            scores = axes.unfold_scores(scores, query_shape, key_shape)
        if not return_attention_scores:
            return output
        return output, ops.cast(scores, self.compute_dtype)

    def compute_mask(self, inputs: Any, mask: Any = None) -> Any:
        return mask[0] if is_list_of_masks(mask) else mask

    def compute_output_shape(
        self,
        query_shape: Any,
        value_shape: Shape | None = None,
        key_shape: Shape | None = None,
    ) -> Shape:
        shapes = self._complete_shapes(query_shape, value_shape, key_shape)
        self._check_shapes(*shapes)
        query_shape, value_shape, _ = shapes
        return (*query_shape[:-1], value_shape[-1])

    def compute_output_spec(
        self,
        query: Any,
        value: Tensor | None = None,
        key: Tensor | None = None,
        query_mask: Tensor | None = None,
        value_mask: Tensor | None = None,
        key_mask: Tensor | None = None,
        mask: Any = None,
        return_attention_scores: bool = False,
        training: bool | None = None,
        use_causal_mask: bool = False,
    ) -> Any:
        query, value, key = self._complete(query, value, key)
        self._masks(query, value, query_mask, value_mask, key_mask, mask)
        shapes = [tuple(x.shape) for x in (query, value, key)]
        self._check_shapes(*shapes)
        output = self._spec(self.compute_output_shape(*shapes))
        if not return_attention_scores:
            return output
        return output, self._spec((*shapes[0][:-1], shapes[2][-2]))

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "dropout": self.dropout,
            "seed": self.seed,
        }

    def _spec(self, shape):
        return keras.KerasTensor(shape, dtype=self.compute_dtype)

    def _complete(self, query, value, key):
        """Query, value and key, or their shapes, of a list or of arguments."""
        query, value, key = split_inputs(self, query, value, key)
        value = query if value is None else value
        key = value if key is None else key
        return query, value, key

    def _complete_shapes(self, query_shape, value_shape, key_shape):
        """As `_complete`, of shapes, which are checked to be such."""
        names = "query_shape", "value_shape", "key_shape"
        shapes = self._complete(query_shape, value_shape, key_shape)
        return [*map(check_is_shape, names, shapes)]

    def _masks(self, query, value, query_mask, value_mask, key_mask, mask):
        """Boolean masks of the queries and of the keys, each or `None`."""
        query_mask, value_mask, key_mask = split_masks(
            self, query_mask, value_mask, key_mask, mask
        )
        if value is query and value_mask is None:
            value_mask = query_mask
        masks = {}
        for name, each, x in (
            ("query_mask", query_mask, query),
            ("value_mask", value_mask, value),
            ("key_mask", key_mask, value),
        ):
            if each is not None:
                each = to_boolean_mask(name, each)
                check_sequence_mask(name, each, x.shape, len(x.shape) - 1)
            masks[name] = each
        if isinstance(query, keras.KerasTensor):
            return None, None
        key_mask = masks["key_mask"]
        if key_mask is not None and key_mask is masks["value_mask"]:
            key_mask = None
        return masks["query_mask"], combine_masks(masks["value_mask"], key_mask)

    def _check_shapes(self, query_shape, value_shape, key_shape):
        received = (
            f"Received: query of shape {tuple(query_shape)}, value of shape "
            f"{tuple(value_shape)}, key of shape {tuple(key_shape)} for layer "
            f"'{self.name}'"
        )
        shapes = query_shape, value_shape, key_shape
        rank = len(query_shape)
        if rank < 3 or any(len(shape) != rank for shape in shapes):
            raise ValueError(
                f"{type(self).__name__} expects tensors of rank 3, (batch, "
                "length, width), or of more axes before the length, as many "
                f"in each. {received}"
            )
        for name, axis, others in (
            ("Query, key and value must have the same batch", 0, shapes),
            *(
                (f"Query, key and value must have the same axis {n}", n, shapes)
                for n in range(1, rank - 2)
            ),
            ("Key and value must have the same length", -2, shapes[1:]),
        ):
            if len({shape[axis] for shape in others} - {None}) > 1:
                raise ValueError(f"{name}. {received}")
        widths = query_shape[-1], key_shape[-1]
        if self.built and widths != self._widths:
            raise ValueError(
                "Query and key must have the widths for which the layer was "
                f"built, {self._widths}. {received}"
            )

    def _to_floats(self, *tensors):
        return [to_float(x, self.compute_dtype) for x in tensors]
