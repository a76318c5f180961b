"""Videos that the tests write: the right frames and clips, hostile and broken files, and the motion encoder."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from mriqa.conord import ConOrdModel
from mriqa.conord.crops import CropSettings
from mriqa.conord.model import MotionSettings
from mriqa.conord.video_frames import VideoError, VideoSettings, check_video, middle_frame, read_video
from mriqa.conord.video_motion import ClipTransformer, FastPathway, MotionEncoder
from mriqa.heads import RankIndex

av = pytest.importorskip("av", reason="PyAV is not installed")

SETTINGS = VideoSettings(frames=3, clips=2, clip_length=4, clip_size=16)
CROP = CropSettings(crop=16)


def write_video(path, levels, size=(48, 32), codec="ffv1", **options):
    """One frame a grey level, its left and right thirds black; ffv1 in Matroska keeps it to a level or two."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=10)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        for level in levels:
            pixels = np.full((size[1], size[0], 3), level, dtype=np.uint8)
            pixels[:, : size[0] // 3] = pixels[:, -(size[0] // 3) :] = 0
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode(None))
    return path


def levels_of(pixels):
    """Grey level in the middle of each picture (..., 3, H, W)."""
    return pixels[..., 0, 8, 8].float()


def test_frames_and_clips_come_from_even_places(tmp_path):
    levels = torch.arange(20, 220, 10)  # frame i has level 20 + 10 i
    video = write_video(tmp_path / "a.mkv", levels.tolist())
    assert check_video(video) == 20
    frames, clips = read_video(video, SETTINGS, CROP)
    assert frames.shape == (3, 3, 16, 16) and clips.shape == (2, 3, 4, 16, 16) and frames.dtype == torch.uint8
    torch.testing.assert_close(levels_of(frames), levels[[3, 10, 16]].float(), rtol=0, atol=3)  # middles of thirds
    clips_MTCHW = clips.transpose(1, 2)
    expected = levels[torch.tensor([[4, 5, 6, 7], [12, 13, 14, 15]])].float()  # middles of halves of the 17 starts
    torch.testing.assert_close(levels_of(clips_MTCHW), expected, rtol=0, atol=3)
    assert frames.float().std(dim=(2, 3)).max() < 3  # the middle 16 columns of 48 hold no black


@pytest.mark.parametrize(("count", "middle"), [(1, 0), (2, 1), (5, 2), (20, 10)])
def test_the_middle_frame_is_whole(tmp_path, count, middle):
    frame = middle_frame(write_video(tmp_path / "a.mkv", [20 + 10 * place for place in range(count)]))
    assert frame.size == (48, 32) and frame.getpixel((5, 8))[0] < 5  # the black third too
    assert abs(frame.getpixel((24, 8))[0] - (20 + 10 * middle)) <= 3


def test_a_short_video_repeats_its_last_frame(tmp_path):
    frames, clips = read_video(write_video(tmp_path / "a.mkv", [50, 200]), SETTINGS, CROP)
    torch.testing.assert_close(levels_of(frames), torch.tensor([50.0, 200, 200]), rtol=0, atol=3)
    torch.testing.assert_close(levels_of(clips.transpose(1, 2))[0], torch.tensor([50.0, 200, 200, 200]), rtol=0, atol=3)


def broken(tmp_path, kind):
    path = tmp_path / f"{kind}.mp4"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "text":
        path.write_text("not a video\n" * 50)
    elif kind == "picture":
        Image.new("RGB", (16, 16)).save(path, format="PNG")
    elif kind == "truncated":
        whole = write_video(tmp_path / "whole.mp4", range(0, 200, 5), codec="mpeg4").read_bytes()
        path.write_bytes(whole[: len(whole) // 2])
    elif kind == "cut short":  # the index, at the front, is whole
        whole = write_video(tmp_path / "whole.mp4", range(0, 200, 5), codec="mpeg4", movflags="faststart").read_bytes()
        path.write_bytes(whole[: len(whole) * 3 // 4])
    elif kind == "damaged":
        whole = bytearray(write_video(tmp_path / "whole.mp4", range(0, 200, 5), codec="mpeg4").read_bytes())
        start = whole.index(b"mdat") + 4
        whole[start : start + 2000] = np.random.default_rng(0).bytes(2000)
        path.write_bytes(whole)
    elif kind == "playlist":  # would have FFmpeg open what it names
        secret = write_video(tmp_path / "secret.ts", [9] * 5, codec="mpeg2video")
        path.write_text(f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{secret}\n#EXT-X-ENDLIST\n")
    elif kind == "concat":
        write_video(tmp_path / "secret.mkv", [9] * 5)
        path.write_text("ffconcat version 1.0\nfile secret.mkv\n")
    elif kind == "sound":
        with av.open(str(path), "w") as container:
            stream = container.add_stream("aac", rate=16000)
            frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
            frame.sample_rate = 16000
            container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("kind, sentence", [
    ("missing", "does not exist"),
    ("folder", "is not a file"),
    ("empty", "is empty"),
    ("text", "is truncated, corrupt or no video"),
    ("picture", "is truncated, corrupt or no video"),
    ("truncated", "is truncated, corrupt or no video"),
    ("cut short", "is truncated: [0-9]+ of its 40 frames|is truncated, corrupt or no video"),
    ("damaged", "is truncated, corrupt or no video"),
    ("playlist", "is truncated, corrupt or no video"),
    ("concat", "is truncated, corrupt or no video"),
    ("sound", "has no video stream"),
])  # fmt: skip
@pytest.mark.parametrize("read", [check_video, lambda path: read_video(path, SETTINGS, CROP)], ids=["check", "read"])
def test_broken_and_hostile_files_are_one_sentence(tmp_path, kind, sentence, read):
    path = broken(tmp_path, kind)
    with pytest.raises(VideoError, match=sentence) as caught:
        read(path)
    assert str(caught.value).startswith(f"video {str(path)!r} ") and "\n" not in str(caught.value)


def test_limits_of_length_and_size(tmp_path):
    video = write_video(tmp_path / "a.mkv", [10] * 12)
    assert check_video(video, max_frames=12, max_pixels=48 * 32) == 12
    with pytest.raises(VideoError, match="has more than 11 frames"):
        read_video(video, SETTINGS, CROP, max_frames=11)
    with pytest.raises(VideoError, match="has frames of 48 × 32 pixels, more than 1,535"):
        read_video(video, SETTINGS, CROP, max_pixels=48 * 32 - 1)


def test_fast_pathway_keeps_time_and_halves_space_five_times():
    fast = FastPathway().eval()
    clips = torch.randint(0, 256, (1, 3, 4, 64, 64), dtype=torch.uint8)
    with torch.no_grad():
        assert fast(clips).shape == (1, 256, 4, 2, 2)
    convolutions = [module for module in fast.modules() if isinstance(module, torch.nn.Conv3d)]
    assert len(convolutions) == 1 + 3 * (3 + 4 + 6 + 3) + 4 and all(c.stride[0] == 1 for c in convolutions)
    # SlowFast's Table 1: 5×7² 8; [3×1² 8, 1×3² 8, 1×1² 32] × 3; … 16, 16, 64 × 4; 32, 32, 128 × 6; 64, 64, 256 × 3
    kernels = [
        (c.out_channels, c.kernel_size) for block in fast.layers[4:] for c in block.body if hasattr(c, "kernel_size")
    ]
    expected = []
    for channels, depth in ((8, 3), (16, 4), (32, 6), (64, 3)):
        expected += [(channels, (3, 1, 1)), (channels, (1, 3, 3)), (4 * channels, (1, 1, 1))] * depth
    assert kernels == expected and (convolutions[0].out_channels, convolutions[0].kernel_size) == (8, (5, 7, 7))


def attention_by_definition(attention, x_SC):
    """Multi-head attention of one sequence, in loops."""
    count, channels = x_SC.shape
    query, key, value = (x_SC @ attention.in_proj_weight.T + attention.in_proj_bias).split(channels, dim=1)
    width = channels // attention.num_heads
    rows = []
    for place in range(count):
        heads = []
        for head in range(attention.num_heads):
            part = slice(head * width, (head + 1) * width)
            weights = torch.stack(
                [query[place, part] @ key[other, part] / width**0.5 for other in range(count)]
            ).softmax(0)
            heads.append(sum(weights[other] * value[other, part] for other in range(count)))
        rows.append(torch.cat(heads))
    return torch.stack(rows) @ attention.out_proj.weight.T + attention.out_proj.bias


def test_clip_transformer_attends_within_frames_then_between_them():
    torch.manual_seed(0)
    refine = ClipTransformer(8, heads=2).double()
    clip = torch.randn(2, 8, 3, 2, 2, dtype=torch.float64)
    expected = clip.clone()
    with torch.no_grad():
        for b in range(2):
            normed = refine.norms[0](expected[b].permute(1, 2, 3, 0))
            for t in range(3):
                places = attention_by_definition(refine.within, normed[t].reshape(4, 8))
                expected[b, :, t] += places.T.reshape(8, 2, 2)
            normed = refine.norms[1](expected[b].permute(1, 2, 3, 0))
            for y in range(2):
                for x in range(2):
                    expected[b, :, :, y, x] += attention_by_definition(refine.between, normed[:, y, x]).T
            expected[b] += refine.mlp(refine.norms[2](expected[b].permute(1, 2, 3, 0))).permute(3, 0, 1, 2)
        torch.testing.assert_close(refine(clip), expected)


def test_a_video_model_fuses_frames_and_motion_and_comes_back(tmp_path):
    torch.manual_seed(0)
    motion = MotionSettings(SETTINGS, depths=(1, 1, 1, 1), stem=2)
    model = ConOrdModel.build("timm:test_resnet", pretrained=False, width=8, views=CROP, motion=motion, k=1)
    videos = [
        write_video(tmp_path / f"{name}.mkv", levels)
        for name, levels in (("still", [90] * 8), ("moving", range(0, 240, 30)))
    ]
    model.eval()
    for video in videos:
        frames, clips = read_video(video, SETTINGS, CROP)
        with torch.no_grad():
            spatial = torch.stack([model.encoder(frame[None])[0] for frame in frames]).mean(dim=0)
            moving = torch.stack([model.motion(clip[None, None])[0] for clip in clips]).mean(dim=0)
            expected = model.projection(torch.cat([spatial, moving])[None])
        torch.testing.assert_close(model.embed([model.load_views(video)]), expected, rtol=1e-4, atol=1e-5)
    model.index = RankIndex(model.embed([model.load_views(video) for video in videos]), torch.tensor([20.0, 80.0]))
    model.save(tmp_path / "model")
    assert json.loads((tmp_path / "model" / "conord.json").read_text())["motion"]["stem"] == 2
    assert ConOrdModel.load(tmp_path / "model").predict(videos[::-1]).tolist() == [80, 20]
    with pytest.raises(ValueError, match="This model is of videos: give paths"):
        model.predict([Image.new("RGB", (8, 8))])


def test_motion_features_do_not_depend_on_the_order_of_clips():
    torch.manual_seed(0)
    encoder = MotionEncoder((1, 1, 1, 1), 2).eval()
    clips = torch.randint(0, 256, (1, 3, 3, 4, 32, 32), dtype=torch.uint8)
    with torch.no_grad():
        torch.testing.assert_close(encoder(clips), encoder(clips.flip(1)))
        assert not torch.allclose(encoder(clips), encoder(clips.flip(3)))  # but on that of frames
