"""The options of recipes/conord.py, which become command-line options and YAML keys."""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from mriqa.choices import check_choice
from mriqa.conord.backbone import CLIP_VIT_B
from mriqa.conord.fitting import TrainingSettings
from mriqa.heads import WEIGHTING_NAMES, HeadError, angular_gaps, l1_gaps, l2_gaps

DISTANCES = {"l1": l1_gaps, "l2": l2_gaps, "angular": angular_gaps}


@dataclass
class ConOrdOptions:
    """All options of the recipe; the defaults are the paper's for BID where it states them."""

    manifest: str = field(default="", metadata={"help": "rated pictures or videos, see mriqa.manifest"})
    test_manifest: str | None = field(default=None, metadata={"help": "test on these instead of a part of manifest"})
    image_root: str | None = field(default=None, metadata={"help": "folder that relative paths start from"})
    scale: str | None = field(default=None, metadata={"help": "scale of the scores, such as 0:116 (default 1:5)"})
    score_key: str | None = field(default=None, metadata={"help": "key of the score, such as age"})
    vector: list[str] = field(
        default_factory=list, metadata={"help": "numbers of a vector rank: pitch=-40:10 yaw=-45:45"}
    )
    distance: str = field(default="l1", metadata={"help": "of ranks: l1, l2, or angular for (pitch, yaw) in degrees"})
    on_bad_row: str = field(default="fail", metadata={"help": "fail, or skip and list bad rows"})
    output_dir: str = field(default="outputs/conord", metadata={"help": "folder to write to"})

    encoder: str = field(default=CLIP_VIT_B, metadata={"help": "timm:NAME, transformers:NAME or embedded"})
    pretrained: bool = field(default=True, metadata={"help": "published weights; false for random ones"})
    frozen: bool = field(default=False, metadata={"help": "train the projection only; features are computed once"})
    width: int = field(default=512, metadata={"help": "embedding width"})
    size: int | None = field(default=None, metadata={"help": "resize pictures to this square first"})
    limit: int | None = field(default=None, metadata={"help": "or shrink their shorter side to this many pixels"})
    crop: int | None = field(default=None, metadata={"help": "side of the crops (default: the encoder's own)"})
    crops: int = field(default=3, metadata={"help": "3: top left, bottom right, centre; 1: centre"})
    flip: bool = field(default=False, metadata={"help": "mirror half of the pictures in training"})

    weighting: str = field(
        default="VIII", metadata={"help": "row of Table 14; XIII means ranks of the order of 0..100"}
    )
    tau: float = field(default=0.07, metadata={"help": "temperature of eq. 3"})
    eps: float = field(default=1e-7, metadata={"help": "epsilon of the affinities"})
    center_weight: float = field(default=1.0, metadata={"help": "of the centre loss"})
    center_reduction: str = field(
        default="mean", metadata={"help": "the centre loss is the mean over the batch, or eq. 8 as it stands: sum"}
    )
    bin_width: float | None = field(
        default=None,
        metadata={"help": "ranks within this width share a reference point (default: a hundredth of the scale)"},
    )
    k: int = field(default=10, metadata={"help": "neighbours that a rank is the mean of"})

    learning_rate: float = field(default=2e-6, metadata={"help": "base rate"})
    points_learning_rate: float | None = field(
        default=None, metadata={"help": "base rate of the reference points (default: that of all else)"}
    )
    warmup_epochs: int = field(default=5, metadata={"help": "epochs in which the rate rises"})
    warmup_factor: float = field(
        default=5.0, metadata={"help": "times the base rate is the peak; then it falls along a cosine"}
    )
    epochs: int = field(default=30, metadata={"help": "the paper does not state them"})
    batch_size: int = field(default=32, metadata={"help": "of all processes together"})
    optimizer: str = field(default="adamw", metadata={"help": "adamw or adam"})
    weight_decay: float = field(default=2e-3, metadata={"help": "of the optimizer"})

    splits: int = field(default=10, metadata={"help": "runs, of which the median is reported"})
    test_share: float = field(default=0.2, metadata={"help": "of the contents, to test on"})
    seed: int = field(default=0, metadata={"help": "of the first split"})

    frames: int = field(default=8, metadata={"help": "videos: frames for the encoder"})
    clips: int = field(default=4, metadata={"help": "videos: clips for the fast pathway"})
    clip_length: int = field(default=16, metadata={"help": "videos: frames of a clip"})
    clip_size: int = field(default=224, metadata={"help": "videos: side of a clip's frames"})
    fast_depths: list[int] = field(default_factory=lambda: [3, 4, 6, 3], metadata={"help": "videos: blocks a stage"})
    fast_stem: int = field(default=8, metadata={"help": "videos: channels of the first layer"})
    fast_weights: str | None = field(
        default=None, metadata={"help": "videos: safetensors file with the fast pathway's weights (default: random)"}
    )

    cpu: bool = field(default=False, metadata={"help": "train on the CPU even where there is a GPU"})
    bf16: bool = field(default=False, metadata={"help": "mixed precision"})
    workers: int = field(default=4, metadata={"help": "processes that read pictures ahead"})
    checkpoint_minutes: float = field(default=5.0, metadata={"help": "least time between checkpoints within a split"})
    keep_models: bool = field(default=True, metadata={"help": "save the model of every split"})

    def training(self, seed: int) -> TrainingSettings:
        """How long and how fast the split of a seed trains."""
        shared = {option.name: getattr(self, option.name) for option in fields(TrainingSettings)}
        return TrainingSettings(**{**shared, "seed": seed})


def check_options(options: ConOrdOptions) -> None:
    """HeadError for options that cannot be right, before anything is read."""
    check_choice("weighting", options.weighting, WEIGHTING_NAMES, HeadError)
    check_choice("center_reduction", options.center_reduction, ["mean", "sum"], HeadError)
    check_choice("distance", options.distance, list(DISTANCES), HeadError)
    check_choice("on_bad_row", options.on_bad_row, ["fail", "skip"], HeadError)
    if not options.manifest:
        raise HeadError("No manifest to train on: give one with --manifest.")
    if options.points_learning_rate is not None and not 0 <= options.points_learning_rate < float("inf"):
        raise HeadError(f"points_learning_rate must be a number of at least 0, not {options.points_learning_rate}.")
    if options.splits < 1 or not 0 < options.test_share < 1:
        raise HeadError("splits must be at least 1, and test_share between 0 and 1.")
    if options.frozen and options.flip:
        raise HeadError("A frozen encoder's features are computed once, so flip has no effect: leave one of them out.")
    if options.distance == "angular" and len(options.vector) != 2:
        raise HeadError("distance angular is for two numbers, pitch and yaw in degrees; name them with --vector.")
    if options.vector and (options.scale or options.score_key):
        raise HeadError("vector names keys and scales itself: leave scale and score_key out.")
