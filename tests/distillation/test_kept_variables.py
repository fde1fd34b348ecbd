import pytest

from keras_attention import AttentionTransferModel
from support.arrays import numpy
from support.distillation import assert_same
from support.distillation import examples
from support.distillation import moved
from support.distillation import network
from support.distillation import teacher_network
from support.distillation import weights
from support.networks import first_of


class Interrupted(AttentionTransferModel):
    """A model whose steps are interrupted while they compile."""

    interrupt = False

    def train_step(self, *arguments):
        if self.interrupt:
            raise KeyboardInterrupt
        return super().train_step(*arguments)


@pytest.mark.parametrize("when", first_of(["first fit", "second fit"], 1))
def test_an_interrupted_first_step_leaves_every_value(when):
    student, teacher = network(dropout=0.3), teacher_network()
    model = Interrupted(student, teacher)
    model.compile(
        "adam", "sparse_categorical_crossentropy", metrics=["accuracy"]
    )
    if when == "second fit":
        model.fit(*examples(), verbose=0)
    before = weights(student), weights(teacher)
    state = [numpy(v.value) for v in model.optimizer.variables]
    model.interrupt, model.train_function = True, None
    with pytest.raises(KeyboardInterrupt):
        model.fit(*examples(), verbose=0)
    assert_same(weights(student), before[0])
    assert_same(weights(teacher), before[1])
    if when == "second fit":
        assert_same([numpy(v.value) for v in model.optimizer.variables], state)
    model.interrupt, model.train_function = False, None
    model.fit(*examples(), verbose=0)
    assert moved(weights(student), before[0]) > 0
    assert_same(weights(teacher), before[1])
