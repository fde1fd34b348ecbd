"""Inserts attention into trained models, and removes it."""

from keras_attention.surgery.attention_sites import (
    AttentionSite as AttentionSite,
)
from keras_attention.surgery.attention_sites import (
    AttentionSites as AttentionSites,
)
from keras_attention.surgery.attention_sites import (
    attention_sites as attention_sites,
)
from keras_attention.surgery.insert_attention import (
    insert_attention as insert_attention,
)
from keras_attention.surgery.insertion_report import (
    InsertionReport as InsertionReport,
)
from keras_attention.surgery.insertion_report import (
    insertion_report as insertion_report,
)
from keras_attention.surgery.model_class import (
    ModelWithAttributes as ModelWithAttributes,
)
from keras_attention.surgery.remove_attention import (
    remove_attention as remove_attention,
)
