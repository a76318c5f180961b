"""The options of recipes/conord.py, which become command-line options and YAML keys.

Help texts name the tables and figures of the ConOrd paper that an option repeats.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields

from mriqa.choices import check_choice
from mriqa.conord.backbone import CLIP_VIT_B
from mriqa.conord.fitting import TrainingSettings
from mriqa.conord.objective import LOSSES, PAIRED, LossSettings
from mriqa.distortions import IMAGENET_C
from mriqa.distortions.imagenet_c import PREFIX
from mriqa.heads import WEIGHTING_NAMES, HeadError, angular_gaps, l1_gaps, l2_gaps
from mriqa.heads.center import INITIALISATIONS

DISTANCES = {"l1": l1_gaps, "l2": l2_gaps, "angular": angular_gaps}
MEANS = "means"
WHOLE, ONE = "mean", "random"
ALL = "all"


@dataclass
class ConOrdOptions:
    """All options of the recipe; the defaults are the paper's for BID where it states them."""

    manifest: str = field(default="", metadata={"help": "rated pictures or videos, see mriqa.manifest"})
    test_manifest: list[str] = field(
        default_factory=list,
        metadata={"help": "test on these instead of a part of manifest, each on its own (cross-data-set, Table 4)"},
    )
    test_scale: list[str] = field(
        default_factory=list,
        metadata={"help": "scale of each test manifest's scores, where it is not that of manifest (Table 4)"},
    )
    image_root: str | None = field(default=None, metadata={"help": "folder that relative paths start from"})
    scale: str | None = field(default=None, metadata={"help": "scale of the scores, such as 0:116 (default 1:5)"})
    score_key: str | None = field(
        default=None, metadata={"help": "key of the score, such as age (Table 2) or temperature (Table 9)"}
    )
    vector: list[str] = field(
        default_factory=list, metadata={"help": "numbers of a vector rank: pitch=-40:10 yaw=-45:45 (gaze, Table 9)"}
    )
    distance: str = field(
        default="l1", metadata={"help": "of ranks: l1, l2, or angular for (pitch, yaw) in degrees (Table 9)"}
    )
    on_bad_row: str = field(default="fail", metadata={"help": "fail, or skip and list bad rows"})
    output_dir: str = field(default="outputs/conord", metadata={"help": "folder to write to"})

    encoder: str = field(
        default=CLIP_VIT_B,
        metadata={
            "help": "timm:NAME, transformers:NAME or embedded; timm:resnet18 is that of Table 9; results.md counts the "
            "parameters (Table 25)"
        },
    )
    pretrained: bool = field(default=True, metadata={"help": "published weights; false for random ones"})
    frozen: bool = field(default=False, metadata={"help": "train the projection only; features are computed once"})
    width: int = field(default=512, metadata={"help": "embedding width"})
    size: int | None = field(default=None, metadata={"help": "resize pictures to this square first"})
    limit: int | None = field(default=None, metadata={"help": "or shrink their shorter side to this many pixels"})
    crop: int | None = field(default=None, metadata={"help": "side of the crops (default: the encoder's own)"})
    crops: int = field(
        default=3, metadata={"help": "3: top left, bottom right, centre (Appendix B.2, Table 3); 1: centre"}
    )
    training_views: str = field(
        default=WHOLE,
        metadata={
            "help": "of the crops in training: mean, the average of their embeddings (Appendix B.2); random, one of "
            "them, drawn anew in each epoch, in a third of the time"
        },
    )
    flip: bool = field(default=False, metadata={"help": "mirror half of the pictures in training (Appendix B.1)"})

    loss: str = field(
        default="conord",
        metadata={
            "help": "conord, supcon, rnc, mae (eq. 2), ocl, or regression by l1 or mse (Tables 5, 15, 18 to 21, Fig. "
            "6); supcon and rnc see two draws of each picture, in batches as large"
        },
    )
    loss_weight: float = field(default=1.0, metadata={"help": "of that loss; 0 is the centre loss alone (Table 6)"})
    center_weight: float = field(
        default=1.0, metadata={"help": "of the centre loss; 0 leaves it out (Tables 6, 13 and 15)"}
    )
    center_reduction: str = field(
        default="mean", metadata={"help": "the centre loss is the mean over the batch, or eq. 8 as it stands: sum"}
    )
    weighting: str = field(
        default="VIII",
        metadata={"help": "row of Table 14 (Tables 1 and 7 are parts of it); XIII means ranks of the order of 0..100"},
    )
    tau: float = field(default=0.07, metadata={"help": "temperature of eq. 1 to 3: supcon, mae, conord (Table 10)"})
    eps: float = field(default=1e-7, metadata={"help": "epsilon of the affinities (Table 11)"})
    rnc_tau: float = field(default=2.0, metadata={"help": "temperature of rnc, its authors'"})
    ocl_tau: float = field(default=0.1, metadata={"help": "temperature of ocl, its authors'"})
    points_init: str = field(
        default="random",
        metadata={
            "help": "reference points start as random, zeros, trunc_normal, kaiming_normal (Table 16), or as means, "
            "the mean embeddings of their ranks (Table 17)"
        },
    )
    bin_width: float | None = field(
        default=None,
        metadata={"help": "ranks within this width share a reference point (default: a hundredth of the scale)"},
    )
    k: int = field(default=10, metadata={"help": "neighbours that a rank is the mean of (eq. 10, Table 12)"})

    learning_rate: float = field(default=2e-6, metadata={"help": "base rate (Table 8)"})
    points_learning_rate: float | None = field(
        default=None, metadata={"help": "base rate of the reference points (default: that of all else)"}
    )
    warmup_epochs: int = field(default=5, metadata={"help": "epochs in which the rate rises"})
    warmup_factor: float = field(
        default=5.0, metadata={"help": "times the base rate is the peak; then it falls along a cosine"}
    )
    epochs: int = field(default=30, metadata={"help": "the paper does not state them"})
    batch_size: int = field(default=32, metadata={"help": "of all processes together (Table 8)"})
    optimizer: str = field(default="adamw", metadata={"help": "adamw or adam"})
    weight_decay: float = field(default=2e-3, metadata={"help": "of the optimizer"})

    splits: int = field(default=10, metadata={"help": "runs, of which the median is reported (Tables 3 and 20)"})
    test_share: float = field(default=0.2, metadata={"help": "of the contents, to test on"})
    train_share: float = field(
        default=1.0, metadata={"help": "of the training items, drawn at random, to train on (Table 18, Fig. 12)"}
    )
    folds: int | None = field(
        default=None,
        metadata={"help": "instead of splits: this many parts without a common content (subject), each tested once"},
    )
    fold_key: str | None = field(
        default=None, metadata={"help": "or the manifest's own folds, whole numbers under this key (Adience, Table 2)"}
    )
    seed: int = field(default=0, metadata={"help": "of the first split"})

    corruptions: list[str] = field(
        default_factory=list,
        metadata={
            "help": "test on corrupted pictures too, at five levels (Table 19, Fig. 12): all, or names: "
            + ", ".join(name.removeprefix(PREFIX) for name in IMAGENET_C)
        },
    )

    test_repeats: int = field(
        default=0,
        metadata={"help": "predict each test so often again from its files, and give the seconds it takes (Table 22)"},
    )

    frames: int = field(default=8, metadata={"help": "videos: frames for the encoder"})
    clips: int = field(default=4, metadata={"help": "videos: clips for the fast pathway"})
    clip_length: int = field(default=16, metadata={"help": "videos: frames of a clip"})
    clip_size: int = field(default=224, metadata={"help": "videos: side of a clip's frames"})
    fast_depths: list[int] = field(default_factory=lambda: [3, 4, 6, 3], metadata={"help": "videos: blocks a stage"})
    fast_stem: int = field(default=8, metadata={"help": "videos: channels of the first layer"})
    fast_weights: str | None = field(
        default=None,
        metadata={
            "help": "videos: safetensors file with the fast pathway's weights, by our names or those of pytorchvideo's "
            "slowfast_r50 (Table 4; default: random)"
        },
    )

    cpu: bool = field(default=False, metadata={"help": "train on the CPU even where there is a GPU"})
    bf16: bool = field(default=False, metadata={"help": "mixed precision"})
    workers: int = field(default=4, metadata={"help": "processes that read pictures ahead"})
    checkpoint_minutes: float = field(default=5.0, metadata={"help": "least time between checkpoints within a split"})
    keep_models: bool = field(default=True, metadata={"help": "save the model of every split"})

    def __post_init__(self) -> None:
        for name in ("test_manifest", "test_scale", "vector", "corruptions"):
            value = getattr(self, name)
            if isinstance(value, str):  # a YAML file may give one without brackets
                setattr(self, name, [value])

    @property
    def paired(self) -> bool:
        """Whether a batch holds two draws of each item."""
        return self.loss in PAIRED

    @property
    def corruption_names(self) -> list[str]:
        """The corruptions to test under, as `mriqa.distortions` knows them."""
        return list(IMAGENET_C) if self.corruptions == [ALL] else [PREFIX + name for name in self.corruptions]

    def training(self, seed: int) -> TrainingSettings:
        """How long and how fast the split of a seed trains."""
        names = [option.name for option in fields(TrainingSettings) if option.name not in ("seed", "draws")]
        shared = {name: getattr(self, name) for name in names}
        return TrainingSettings(**shared, seed=seed, draws=2 if self.paired else 1)

    def losses(self, hundredth: float) -> LossSettings:
        """Which losses train, where a hundredth of the scale is so wide."""
        names = ("loss", "loss_weight", "center_weight", "center_reduction", "weighting", "tau", "eps")
        return LossSettings(
            **{name: getattr(self, name) for name in (*names, "rnc_tau", "ocl_tau")},
            bin_width=self.bin_width or hundredth,
            gap_width=hundredth,
            distance=DISTANCES[self.distance],
        )


def check_options(options: ConOrdOptions) -> None:
    """HeadError for options that cannot be right, before anything is read."""
    for name, choices in (
        ("loss", LOSSES),
        ("weighting", WEIGHTING_NAMES),
        ("center_reduction", ["mean", "sum"]),
        ("points_init", [*INITIALISATIONS, MEANS]),
        ("training_views", [WHOLE, ONE]),
        ("distance", DISTANCES),
        ("on_bad_row", ["fail", "skip"]),
    ):
        check_choice(name, getattr(options, name), choices, HeadError)
    if not options.manifest:
        raise HeadError("No manifest to train on: give one with --manifest.")
    for name in ("loss_weight", "center_weight", "points_learning_rate"):
        value = getattr(options, name)
        if value is not None and not 0 <= value < float("inf"):
            raise HeadError(f"{name} must be a number of at least 0, not {value}.")
    if options.loss_weight == options.center_weight == 0:
        raise HeadError("loss_weight and center_weight are both 0, so there is nothing to train: raise one of them.")
    if options.splits < 1 or not 0 < options.test_share < 1:
        raise HeadError("splits must be at least 1, and test_share between 0 and 1.")
    if not 0 < options.train_share <= 1:
        raise HeadError(f"train_share must be a share above 0 and at most 1, not {options.train_share}.")
    check_views(options)
    check_tests(options)


def check_views(options: ConOrdOptions) -> None:
    """HeadError where the options of pictures and ranks do not go together."""
    if options.frozen and options.flip:
        raise HeadError("A frozen encoder's features are computed once, so flip has no effect: leave one of them out.")
    if options.frozen and options.paired and (options.training_views == WHOLE or options.crops == 1):
        raise HeadError(
            f"{options.loss} compares two views, and features of a frozen encoder cannot be mirrored: give "
            "--training_views random --crops 3."
        )
    if options.distance == "angular" and len(options.vector) != 2:
        raise HeadError("distance angular is for two numbers, pitch and yaw in degrees; name them with --vector.")
    if options.vector and (options.scale or options.score_key):
        raise HeadError("vector names keys and scales itself: leave scale and score_key out.")


def check_tests(options: ConOrdOptions) -> None:
    """HeadError where the options of the tests do not go together."""
    tests, scales = len(options.test_manifest), len(options.test_scale)
    if scales not in (0, tests):
        raise HeadError(f"There are {tests} test manifests and {scales} scales of theirs; give one to each, or none.")
    if scales and options.vector:
        raise HeadError("vector names the scales of all manifests: leave test_scale out.")
    if options.test_repeats < 0:
        raise HeadError(f"test_repeats must be at least 0, not {options.test_repeats}.")
    if options.folds is not None and options.folds < 2:
        raise HeadError(f"folds must be at least 2, not {options.folds}.")
    ways = {"test_manifest": tests > 0, "folds": options.folds is not None, "fold_key": options.fold_key is not None}
    named = [name for name, given in ways.items() if given]
    if len(named) > 1:
        raise HeadError(f"{' and '.join(named)} are different ways to choose the test: give one of them.")
    if options.corruptions != [ALL]:
        for name in options.corruption_names:
            check_choice(
                "corruption", name.removeprefix(PREFIX), [n.removeprefix(PREFIX) for n in IMAGENET_C], HeadError
            )
