"""A Bayesian neural network for handwritten digits, as algebra: weights are random variables like any other.

    image -> tanh(W1 image + b1) -> W2 hidden + b2 -> Categorical

A minibatch counts for all images. What the weights leave open shows in the prediction: the network says how
sure it is, and images that it is unsure of can be put aside.

    python examples/bayesian_network.py --num-steps 3000
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split

from brancher import set_rng_seed
from brancher.symbolic import (
    BF,
    CategoricalVariable,
    DeterministicVariable,
    EmpiricalVariable,
    NormalVariable,
    ProbabilisticModel,
    RandomIndices,
    inference,
)

HERE = Path(__file__).parent
PIXELS, DIGITS = 64, 10


class Result(NamedTuple):
    """What the example returns."""

    losses: pd.Series  # nats
    table: pd.DataFrame  # a row each test image: digit, predicted, confidence
    images: np.ndarray  # of the test, (n, 64)

    @property
    def accuracy(self) -> float:
        """Share of test images whose digit is found."""
        return float((self.table["digit"] == self.table["predicted"]).mean())


def build(
    image: np.ndarray, digit: np.ndarray, hidden: int, batch_size: int
) -> tuple[ProbabilisticModel, ProbabilisticModel, EmpiricalVariable]:
    """The model with its data, its posterior, and the variable that holds the images."""
    indices = RandomIndices(len(image), batch_size, name="indices")
    x = EmpiricalVariable(image, indices=indices, name="image")
    labels = EmpiricalVariable(digit, indices=indices, name="label")
    shapes = {"W1": (hidden, PIXELS), "b1": (hidden,), "W2": (DIGITS, hidden), "b2": (DIGITS,)}
    # Weights of a layer shrink with its inputs, so that activations start out of the order of 1.
    scales = {"W1": 2.0 / PIXELS**0.5, "b1": 1.0, "W2": 2.0 / hidden**0.5, "b2": 1.0}
    w = {name: NormalVariable(np.zeros(shape), scales[name], name) for name, shape in shapes.items()}
    activation = BF.tanh(BF.linear(x, w["W1"], w["b1"]))
    logits = BF.linear(activation, w["W2"], w["b2"])
    probability = DeterministicVariable(BF.softmax(logits), "probability")
    k = CategoricalVariable(logits=logits, name="k")
    k.observe(labels)
    rng = np.random.default_rng(0)
    posterior = [
        NormalVariable(0.1 * rng.normal(size=shape), np.full(shape, 0.05), name, learnable=True)
        for name, shape in shapes.items()
    ]
    return ProbabilisticModel([k, probability]), ProbabilisticModel(posterior), x


def fit(num_steps: int, num_samples: int, hidden: int = 32, batch_size: int = 100) -> Result:
    """Train on two thirds of the digits and predict the rest."""
    digits = load_digits()
    train, test, digit, truth = train_test_split(
        digits.data / 16.0, digits.target, test_size=1 / 3, random_state=0, stratify=digits.target
    )
    model, posterior, x = build(train, digit, hidden, batch_size)
    model.set_posterior_model(posterior)
    losses = []
    for share, lr in ((0.7, 0.02), (0.3, 0.004)):
        inference.perform_inference(model, max(1, int(share * num_steps)), 2, optimizer="Adam", lr=lr)
        losses.append(model.diagnostics["loss curve"])
    draws = model._get_posterior_sample(num_samples, input_values={x: test}, seed=0)
    probability = draws["probability"].mean(0).numpy()
    table = pd.DataFrame(
        {"digit": truth, "predicted": probability.argmax(1), "confidence": probability.max(1)}
    )
    return Result(pd.concat(losses, ignore_index=True), table, test)


def calibration(table: pd.DataFrame) -> pd.DataFrame:
    """Confidence and accuracy of fifths of the images, from the least to the most sure."""
    fifth = pd.qcut(table["confidence"].rank(method="first"), 5, labels=False)
    right = table["digit"] == table["predicted"]
    return pd.DataFrame(
        {"confidence": table["confidence"].groupby(fifth).mean(), "accuracy": right.groupby(fifth).mean()}
    )


def draw(result: Result, path: Path) -> None:
    """Show the images that the network is least sure of, and how far its confidence can be trusted."""
    figure = plt.figure(figsize=(11, 4.6), layout="constrained")
    left, right = figure.subfigures(1, 2, width_ratios=[1.5, 1])
    unsure = result.table["confidence"].nsmallest(12).index
    axes: Any = left.subplots(2, 6)
    for ax, i in zip(axes.flat, unsure, strict=True):
        row = result.table.loc[i]
        ax.imshow(result.images[i].reshape(8, 8), cmap="gray_r")
        ax.set(xticks=[], yticks=[])
        is_right = row["digit"] == row["predicted"]
        ax.set_title(
            f"{row['predicted']:.0f}? {row['confidence']:.0%}\nis {row['digit']:.0f}",
            fontsize=9,
            color="tab:green" if is_right else "tab:red",
        )
    left.suptitle("The test images that the network is least sure of")
    ax = right.subplots()
    table = calibration(result.table)
    ax.plot([0.4, 1], [0.4, 1], ":", color="0.6", label="as sure as right")
    ax.plot(table["confidence"], table["accuracy"], "o-", color="tab:blue", label="fifths of the images")
    ax.set(xlabel="mean confidence", ylabel="accuracy", title=f"Accuracy {result.accuracy:.1%} in all")
    ax.legend(frameon=False, loc="lower right")
    ax.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv: Sequence[str] | None = None) -> Result:
    """Train, print the table, save the picture."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--num-steps", type=int, default=2000)
    parser.add_argument("--num-samples", type=int, default=200)
    parser.add_argument("--output", type=Path, default=HERE / "output")
    args = parser.parse_args(argv)

    set_rng_seed(0)
    result = fit(args.num_steps, args.num_samples)
    print(f"accuracy on {len(result.table)} test images: {result.accuracy:.1%}")
    print(calibration(result.table).round(3).rename_axis("fifth").to_string())
    args.output.mkdir(parents=True, exist_ok=True)
    draw(result, args.output / "bayesian_network.png")
    print(f"picture: {args.output / 'bayesian_network.png'}")
    return result


if __name__ == "__main__":
    main()
