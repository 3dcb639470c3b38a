"""A mean with its 95 % confidence interval."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence

import numpy as np


@dataclasses.dataclass(frozen=True)
class Interval:
    """A mean and the half width of its 95 % confidence interval."""

    mean: float
    half_width: float

    @classmethod
    def of(cls, values: Sequence[float] | np.ndarray) -> Interval:
        """The interval of independent ``values``, by Student's t.

        Args:
            values: Of one alone there is no half width (NaN), of none no mean either.
        """
        values = np.asarray(values, dtype=float)
        if not len(values):
            return cls(math.nan, math.nan)
        if len(values) < 2:
            return cls(float(values.mean()), math.nan)
        from scipy.stats import t

        error = float(values.std(ddof=1)) / math.sqrt(len(values))
        return cls(float(values.mean()), float(t.ppf(0.975, len(values) - 1)) * error)

    def to_dict(self) -> dict[str, float | None]:
        """Plain values, for JSON, which knows no NaN: of one value there is no half width."""
        own = {"mean": self.mean, "half_width": self.half_width}
        return {name: None if math.isnan(value) else value for name, value in own.items()}

    def text(self, digits: int) -> str:
        """The mean and, if there is one, the half width.

        Args:
            digits: Decimals of both.
        """
        if math.isnan(self.mean):
            return "-"
        mean = f"{self.mean:.{digits}f}"
        return mean if math.isnan(self.half_width) else f"{mean} ± {self.half_width:.{digits}f}"
