"""A reward whose gradient reaches the pixels, for generators that are trained through it.

The expected score Σ_s s · p(s | image) is a smooth function of what the vision tower is given, so a generator can climb
it directly, as DRaFT (Clark et al., ICLR 2024) and ReFL (Xu et al., NeurIPS 2023) climb other rewards, with no sampling
of answers and no policy gradient.

A score is measured on 8-bit pixels, which have no gradient. So the value is computed on these, by the scorer's own
processor, and equals `mriqa score`'s; the gradient is that of the same resizing, cropping and normalising without the
rounding (a straight-through estimator; Bengio et al., 2013).

Legend: N images, V views of all of them, S scores, C = 3 channels, H × W pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from mriqa.adapters.quality import to_source
from mriqa.embedded.lite_network import normalised
from mriqa.plain_vlm.processor import PlainProcessor
from mriqa.scoring.digit_tree import DigitTree
from mriqa.scoring.prompts import prompt_batch
from mriqa.scoring.reading import ReadoutError
from mriqa.scoring.transformers_backend import TransformersBackend
from mriqa.tensor_views import tensor_views
from mriqa.views import views

if TYPE_CHECKING:
    from mriqa.scoring.scorer import Scorer


class DifferentiableReward:
    """`reward(images)` → rewards (N,) in 0..1, (score − 1) / 4, through which `backward()` reaches the pixels.

        reward = DifferentiableReward(Scorer.from_pretrained())
        loss = -reward(generator(prompts)).mean()
        loss.backward()

    Images are a float tensor (N, 3, H, W) in 0..1, or a list of tensors (3, H, W) of different sizes; values beyond are
    clipped and get no gradient. All images go through the model at once: hand over as many as memory bears.

    Args:
        scorer: one that reads the distribution over all scores from a transformers model in this process (readout
            "expected"). Its weights are frozen from now on.
        straight_through: False leaves the 8-bit pixels out: value and gradient are then of the smooth function alone,
            which differs from `mriqa score` by what rounding does, usually less than 0.01 points.

    Raises ReadoutError for a scorer of another kind, or where the model's processor keeps no gradient.
    """

    def __init__(self, scorer: Scorer, straight_through: bool = True) -> None:
        backend = scorer.backend
        if not isinstance(backend, TransformersBackend) or not isinstance(backend.readout, DigitTree):
            raise ReadoutError(
                "A differentiable reward needs the expected score of a model that runs here: load the scorer with "
                'readout="expected" and backend="transformers".'
            )
        self.views, self.straight_through = scorer.views, straight_through
        self._backend, self._tree = backend, backend.readout
        backend.model.requires_grad_(False)

    def __call__(self, images: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        return (self.scores(images) - 1) / 4

    def scores(self, images: torch.Tensor | Sequence[torch.Tensor]) -> torch.Tensor:
        """Expected scores (N,) in 1..5. Raises ValueError for other shapes and for pixels that aren't finite."""
        exact_V: list[Image.Image] = []
        smooth_V: list[torch.Tensor] = []
        counts_N: list[int] = []
        for number, image_CHW in enumerate(images):
            picture = to_source(image_CHW)
            if not isinstance(picture, Image.Image):
                raise ValueError(f"Image {number} has pixels that are NaN or infinite, so it has no reward.")
            seen = views(picture, self.views)
            exact_V += seen
            smooth_V += tensor_views(255 * image_CHW.float().clamp(0, 1), self.views)
            counts_N.append(len(seen))
        model: Any = self._backend.model
        inputs = prompt_batch(self._backend.processor, self._backend.answer_format, exact_V)
        inputs["pixel_values"] = self._pixel_values(inputs["pixel_values"], exact_V, smooth_V)
        probabilities_VS = self._tree.probabilities(model, inputs.to(model.device, dtype=model.dtype))
        values_S = torch.as_tensor(self._tree.scores.values_S).to(probabilities_VS)
        return torch.stack([of_one.mean() for of_one in (probabilities_VS @ values_S).split(counts_N)])

    def _pixel_values(
        self, given: torch.Tensor, exact_V: list[Image.Image], smooth_V: list[torch.Tensor]
    ) -> torch.Tensor:
        """What the vision tower gets: the exact values, with the gradient of the smooth ones."""
        processor = self._backend.processor
        if isinstance(processor, PlainProcessor):
            smooth = torch.stack([processor.look.smooth(image) for image in smooth_V])
            exact = given if given.is_floating_point() else normalised(given)
            return exact + (smooth - smooth.detach()) if self.straight_through else smooth
        image_processor = processor.image_processor  # type: ignore[attr-defined]  # set by subclasses
        # A processor that leaves pixels as bytes leaves the rest to the tower, by the mean and deviation it names.
        options: dict[str, Any] = {"return_tensors": "pt"}
        if given.dtype == torch.uint8:
            options |= {"do_rescale": True, "do_normalize": True}
            given = image_processor(images=exact_V, **options)["pixel_values"]
        smooth = image_processor(images=smooth_V, **options)["pixel_values"]
        wanted = torch.is_grad_enabled() and any(image.requires_grad for image in smooth_V)
        if smooth.shape != given.shape or (wanted and not smooth.requires_grad):
            raise ReadoutError(
                f"The model's processor, {type(image_processor).__name__}, takes no tensors that keep a gradient: use "
                "for_image_generation, which needs none."
            )
        if not self.straight_through:
            return smooth
        return given.to(smooth) + (smooth - smooth.detach())
