"""Frames and clips of a video file, however long it is and whoever sent it, or one sentence that says why not.

The file is read twice: first to count its frames, without decoding any, then to decode it and keep the wanted frames.
Each frame is cropped at once, so memory does not grow with the video. Only file formats that hold one video are opened:
playlists and the like, which would make FFmpeg open other files or addresses, are refused.

Legend: N frames, M clips, T frames of a clip, H W pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from mriqa.conord.crops import CropSettings, as_pixels, crops
from mriqa.heads.inputs import HeadError
from mriqa.images import ImageError

SUFFIXES = frozenset(
    {".avi", ".flv", ".m2ts", ".m4v", ".mkv", ".mov", ".mp4", ".mpeg", ".mpg", ".ts", ".webm", ".wmv", ".y4m"}
)
"""Names by which a file is taken for a video."""

FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,flv,mpeg,mpegts,mpegvideo,h264,hevc,asf,yuv4mpegpipe,ogg"
MAX_FRAMES = 36_000  # ten minutes at 60 frames a second
MAX_PIXELS = 7680 * 4320


class VideoError(ImageError):
    """A video that cannot be used, as one sentence naming it and the reason."""


@dataclass(frozen=True)
class VideoSettings:
    """How much is taken from a video. The paper leaves the numbers open; these are chosen.

    Attributes:
        frames: frames for the spatial encoder, N, at even distances.
        clips: clips for the motion encoder, M, at even distances.
        clip_length: successive frames of a clip, T; a shorter video repeats its last frame.
        clip_size: side of the clips' frames: shrunk to this shorter side, then the middle square.
    """

    frames: int = 8
    clips: int = 4
    clip_length: int = 16
    clip_size: int = 224

    def __post_init__(self) -> None:
        for name, value in vars(self).items():
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise HeadError(f"{name} must be a whole number of at least 1, not {value!r}.")


def is_video(path: str | Path) -> bool:
    """Whether a file's name says that it is a video."""
    return Path(path).suffix.lower() in SUFFIXES


def check_video(path: str | Path, max_frames: int = MAX_FRAMES, max_pixels: int = MAX_PIXELS) -> int:
    """The number of frames of a video whose first frame can be decoded.

    Raises:
        VideoError: missing, empty, broken or truncated, not a video, too long or too large.
        HeadError: PyAV is not installed.
    """
    count = _count_frames(path, max_frames, max_pixels)
    with _opened(path, max_pixels) as (container, stream):
        if next(container.decode(stream), None) is None:
            raise VideoError("holds no frame that can be decoded.")
    return count


def read_video(
    path: str | Path,
    settings: VideoSettings,
    crop: CropSettings,
    max_frames: int = MAX_FRAMES,
    max_pixels: int = MAX_PIXELS,
) -> tuple[Tensor, Tensor]:
    """Frames (N, 3, H, W), the middle crop of each, and clips (M, 3, T, H', W'), uint8.

    Arguments:
        path: the video file.
        settings: how many frames and clips, and how large the latter.
        crop: how frames are resized, and the side of their crop H = W.
        max_frames, max_pixels: longer videos, and those with more pixels in a frame, are refused.

    Raises:
        VideoError, HeadError: as for `check_video`.
    """
    count = _count_frames(path, max_frames, max_pixels)
    frame_places = _evenly(count, settings.frames)
    clip_places = [
        [min(start + step, count - 1) for step in range(settings.clip_length)]
        for start in _evenly(max(1, count - settings.clip_length + 1), settings.clips)
    ]
    still = CropSettings(crop.crop, 1, crop.size, crop.limit)
    moving = CropSettings(settings.clip_size, 1, None, settings.clip_size)
    wanted = {place: [still] for place in frame_places}
    for place in sorted({place for clip in clip_places for place in clip}):
        wanted.setdefault(place, []).append(moving)
    pixels = _decode(path, wanted, max_pixels)
    frames_N3HW = torch.stack([pixels[place, still] for place in frame_places])
    clips_M3THW = torch.stack([torch.stack([pixels[place, moving] for place in clip], dim=1) for clip in clip_places])
    return frames_N3HW, clips_M3THW


def middle_frame(path: str | Path, max_frames: int = MAX_FRAMES, max_pixels: int = MAX_PIXELS) -> Image.Image:
    """The frame in the middle of a video, whole, to show what the video is of.

    Raises:
        VideoError, HeadError: as for `check_video`.
    """
    middle = _count_frames(path, max_frames, max_pixels) // 2
    with _opened(path, max_pixels) as (container, stream):
        for place, frame in enumerate(_frames(container, stream, max_pixels)):
            latest = frame
            if place == middle:
                break
        image: Image.Image = latest.to_image()
    return image


def _decode(
    path: str | Path, wanted: dict[int, list[CropSettings]], max_pixels: int
) -> dict[tuple[int, CropSettings], Tensor]:
    """The wanted frames, each with the wanted crops, as pixels (3, H, W) by place and crop.

    Some packets may hold no visible frame, so that there are fewer frames than counted; the last frame then stands for
    the missing ones.
    """
    pixels: dict[tuple[int, CropSettings], Tensor] = {}
    places = sorted(wanted)
    latest = None

    def keep(frame: Any) -> None:
        image = frame.to_image()
        place = places.pop(0)
        for crop in wanted[place]:
            pixels[place, crop] = as_pixels(crops(image, crop)[0])

    with _opened(path, max_pixels) as (container, stream):
        for place, latest in enumerate(_frames(container, stream, max_pixels)):
            if place == places[0]:
                keep(latest)
            if not places:
                return pixels
        while places:
            keep(latest)
    return pixels


def _frames(container: Any, stream: Any, max_pixels: int) -> Iterator[Any]:
    """The frames of an open video, at least one. VideoError where there is none, or one is too large."""
    frame = None
    for frame in container.decode(stream):
        if frame.width * frame.height > max_pixels:
            raise VideoError(f"has a frame of {frame.width} × {frame.height} pixels, more than {max_pixels:,}.")
        yield frame
    if frame is None:
        raise VideoError("holds no frame that can be decoded.")


def _count_frames(path: str | Path, max_frames: int, max_pixels: int) -> int:
    """The number of packets of the video stream: its frames, and invisible ones."""
    with _opened(path, max_pixels) as (container, stream):
        count = 0
        for packet in container.demux(stream):
            count += packet.size > 0
            if count > max_frames:
                raise VideoError(f"has more than {max_frames:,} frames; cut it into shorter ones.")
        if count == 0:
            raise VideoError("holds no frames.")
        if count < stream.frames:
            raise VideoError(f"is truncated: {count} of its {stream.frames} frames are there.")
    return count


@contextmanager
def _opened(path: str | Path, max_pixels: int) -> Iterator[tuple[Any, Any]]:
    """An open container and its video stream; whatever goes wrong while they are used becomes a VideoError."""
    try:
        import av
    except ImportError as error:
        raise HeadError('Reading videos needs PyAV: pip install "mriqa[video]".') from error

    path = Path(path)
    options = {"format_whitelist": FORMATS, "protocol_whitelist": "file"}
    try:
        if not path.is_file():  # opening a pipe or a device could block for ever
            raise VideoError("does not exist." if not path.exists() else "is not a file.")
        if path.stat().st_size == 0:
            raise VideoError("is empty: it has 0 bytes.")
        with av.open(f"file:{path}", options=options, metadata_errors="replace") as container:
            if not len(container.streams):
                raise VideoError("is truncated, corrupt or no video (there is no stream in it).")
            if not container.streams.video:
                raise VideoError("has no video stream.")
            stream = container.streams.video[0]
            if stream.width * stream.height > max_pixels:
                raise VideoError(f"has frames of {stream.width} × {stream.height} pixels, more than {max_pixels:,}.")
            yield container, stream
    except (VideoError, ImageError) as error:
        raise VideoError(f"video {str(path)!r} {error}") from error
    except (av.FFmpegError, ValueError, OSError, MemoryError) as error:
        raise VideoError(f"video {str(path)!r} is truncated, corrupt or no video ({_reason(error)}).") from error


def _reason(error: BaseException) -> str:
    text = getattr(error, "strerror", None) or str(error).split("\n")[0]
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _evenly(count: int, wanted: int) -> list[int]:
    """`wanted` places in 0..count-1, each in the middle of an equal share; repeated where there are fewer."""
    return [(2 * index + 1) * count // (2 * wanted) for index in range(wanted)]
