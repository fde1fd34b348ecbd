"""Query, value and key in a list, as `keras.layers.Attention` takes them."""

import numbers
from typing import Any


def split_inputs(
    layer: Any, query: Any, value: Any = None, key: Any = None
) -> tuple[Any, Any, Any]:
    """Take tensors, or their shapes, out of a list.

    Args:
        layer: The layer that is called, for errors.
        query: Tensor or shape; or a list of query and value, and maybe key.
        value: As query, or `None`.
        key: As query, or `None`.

    Returns:
        Query, value and key; `None` for what is left out.

    Raises:
        ValueError: For a list of another length, or a value besides a list.
    """
    if is_list_of_inputs(query):
        if len(query) not in (2, 3) or value is not None or key is not None:
            others = {"value": value, "key": key}
            named = [name for name, x in others.items() if x is not None]
            raise ValueError(
                f"{type(layer).__name__} takes `[query, value]` or "
                "`[query, value, key]`, or the same as arguments of their "
                f"own. Received: a list of {len(query)} for layer "
                f"'{layer.name}'" + "".join(f", and a {name}" for name in named)
            )
        query, value, key = (*query, None)[:3]
    if value is None and key is not None:
        raise ValueError(
            f"{type(layer).__name__} needs the values that belong to the "
            "keys. Received: key without value. For self-attention pass "
            "the query alone."
        )
    return query, value, key


def split_masks(
    layer: Any, query_mask: Any, value_mask: Any, key_mask: Any, mask: Any
) -> tuple[Any, Any, Any]:
    """Take masks out of a list.

    Keras passes the masks of a list of inputs as `query_mask`, a list.

    Args:
        layer: The layer that is called, for errors.
        query_mask: Mask; or a list of the queries' and values' masks, and
            maybe the keys'.
        value_mask: Mask or `None`.
        key_mask: Mask or `None`.
        mask: `query_mask` by another name, or `None`.

    Returns:
        Masks of queries, values and keys, each or `None`.

    Raises:
        ValueError: For a list of another length.
    """
    mask = query_mask if mask is None else mask
    if is_list_of_masks(mask):
        if len(mask) not in (2, 3):
            raise ValueError(
                "A list of masks must be `[query_mask, value_mask]`, or have "
                f"`key_mask` at the end. Received: a list of {len(mask)} for "
                f"layer '{layer.name}'"
            )
        query_mask, *others = (*mask, None)[:3]
        value_mask = others[0] if value_mask is None else value_mask
        key_mask = others[1] if key_mask is None else key_mask
        return query_mask, value_mask, key_mask
    return mask, value_mask, key_mask


def is_list_of_inputs(query: Any) -> bool:
    """Whether this is a list of tensors or of shapes, not a shape."""
    return isinstance(query, list | tuple) and not all(
        isinstance(size, numbers.Integral | None) for size in query
    )


def first_input(inputs: Any) -> Any:
    """Return the first of a list of tensors or of shapes, or the only one."""
    return inputs[0] if is_list_of_inputs(inputs) else inputs


def is_list_of_masks(mask: Any) -> bool:
    """Whether this is a list of masks, not a mask of nested lists."""
    return isinstance(mask, list | tuple) and any(
        each is None or hasattr(each, "shape") for each in mask
    )
