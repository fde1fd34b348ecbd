"""The range of pixels that a model takes, kept with the model.

A model gives silently wrong predictions for images of another range than it
was trained on. Here the range is found once for everything that feeds images
to a model: the command line, the exports and their verification.

The sources, in this order:

1. what was set by `set_pixel_range`, or is stored in the file or export that
   the model comes from;
2. an integer input, which takes pixels as they are;
3. a layer or operation inside the model that scales its input, such as
   `keras.layers.Rescaling(1 / 255)` or the preprocessing of a network of
   `keras.applications`: such a model takes the values of image files;
4. where nothing is known, 0 to 1 is assumed, and what feeds the model says so.

The range is stored as `keras_attention.json`: a member of the `.keras` file,
which Keras' own `load_model` passes over, or a file in an export's folder.
"""

from keras_attention.pixels.files import RECORD as RECORD
from keras_attention.pixels.files import load_model as load_model
from keras_attention.pixels.files import read_record as read_record
from keras_attention.pixels.files import record_text as record_text
from keras_attention.pixels.files import save_model as save_model
from keras_attention.pixels.finding import FoundPixelRange as FoundPixelRange
from keras_attention.pixels.finding import find_pixel_range as find_pixel_range
from keras_attention.pixels.finding import (
    inner_pixel_range as inner_pixel_range,
)
from keras_attention.pixels.finding import set_pixel_range as set_pixel_range
from keras_attention.pixels.pixel_range import ASSUMED as ASSUMED
from keras_attention.pixels.pixel_range import NAMED as NAMED
from keras_attention.pixels.pixel_range import PixelRange as PixelRange
