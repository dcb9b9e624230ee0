"""Image data as it lies on disks: folders of classes, CIFAR's binary files, files of arrays."""

from __future__ import annotations

import pickle
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

from trak_cli.errors import ConfigError, InputError
from trak_cli.plugins import Cifar, ImageFile, ImageFolder, SampleFile
from trak_cli.plugins.images import ImageTransform
from trak_cli.plugins.samples import check_repeatable

Image = pytest.importorskip("PIL.Image")


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def noise(*shape: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


PLAIN = {"size": 4, "resize": None, "mean": [0.0, 0.0, 0.0], "std": [1.0, 1.0, 1.0]}


def test_classes_and_files_come_in_the_order_of_their_names(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.PNG", "a/x/deep.png", "a/z.png"):
        save(tmp_path / name, noise(4, 4, 3))
    (tmp_path / "a" / "notes.txt").write_text("no image")
    (tmp_path / "a" / ".hidden.png").write_text("no image")
    (tmp_path / ".hidden").mkdir()
    data = ImageFolder(str(tmp_path), **PLAIN)
    assert data.classes == ["a", "b"]
    files = [Path(data.describe(i)["file"]).relative_to(tmp_path).as_posix() for i in range(len(data))]
    assert files == ["a/x/deep.png", "a/z.png", "b/10.PNG", "b/2.png"]
    assert [data[i][1] for i in range(4)] == [0, 0, 1, 1]
    check_repeatable(data, range(4))


def test_pixels_of_the_right_size_pass_through_unchanged(tmp_path: Path) -> None:
    pixels = noise(4, 4, 3)
    save(tmp_path / "a" / "1.png", pixels)
    image, _ = ImageFolder(str(tmp_path), **PLAIN)[0]
    assert image.dtype == torch.float32
    np.testing.assert_array_equal(image.numpy() * 255, pixels.transpose(2, 0, 1))


@pytest.mark.parametrize("size", [28, 32, 64, 96, 128])
def test_small_images_are_taken_whole_at_the_size_of_the_model(tmp_path: Path, size: int) -> None:
    pixels = noise(size, size, 3)
    save(tmp_path / "a" / "1.png", pixels)
    image, _ = ImageFolder(str(tmp_path), size=size, mean=[0.0] * 3, std=[1.0] * 3)[0]
    np.testing.assert_allclose(image.numpy() * 255, pixels.transpose(2, 0, 1), atol=1e-4)


@pytest.mark.parametrize(("size", "resize"), [(160, 183), (192, 219), (224, 256), (299, 342), (384, 439)])
def test_larger_images_are_cropped_as_the_models_of_imagenet_are_evaluated(tmp_path: Path, size: int, resize: int) -> None:
    save(tmp_path / "a" / "1.png", noise(300, 400, 3))
    normal = {"size": size, "mean": [0.5] * 3, "std": [0.5] * 3}
    image, _ = ImageFolder(str(tmp_path), **normal)[0]
    torch.testing.assert_close(image, ImageTransform(**normal, resize=resize).read(tmp_path / "a" / "1.png"))


def test_mean_and_deviation_are_of_each_channel(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", np.full((4, 4, 3), 255, dtype=np.uint8))
    image, _ = ImageFolder(str(tmp_path), **{**PLAIN, "mean": [0.5, 0.0, 1.0], "std": [0.5, 0.25, 1.0]})[0]
    assert image[:, 0, 0].tolist() == [1.0, 4.0, 0.0]


def test_the_shorter_side_is_resized_and_the_middle_cropped(tmp_path: Path) -> None:
    """A picture of 8 × 4 blocks: shrunk by two, its middle is the two inner columns of blocks."""
    blocks = np.repeat(np.repeat(np.array([[10, 20, 30, 40]], dtype=np.uint8), 8, axis=0), 4, axis=1)
    save(tmp_path / "a" / "wide.png", blocks)  # 8 high, 16 wide
    transform = ImageTransform(size=4, resize=4, mean=(0.0,), std=(1.0,))
    np.testing.assert_allclose(transform.pixels(tmp_path / "a" / "wide.png")[0, 0], [20, 20, 30, 30], atol=1)
    save(tmp_path / "a" / "high.png", blocks.T)
    np.testing.assert_allclose(transform.pixels(tmp_path / "a" / "high.png")[0, :, 0], [20, 20, 30, 30], atol=1)


def test_a_grey_file_becomes_colour_and_the_reverse_by_the_number_of_means(tmp_path: Path) -> None:
    save(tmp_path / "a" / "grey.png", noise(4, 4))
    assert ImageFolder(str(tmp_path), **PLAIN)[0][0].shape == (3, 4, 4)
    assert ImageFolder(str(tmp_path), **{**PLAIN, "mean": [0.0], "std": [1.0]})[0][0].shape == (1, 4, 4)


def test_a_split_that_lacks_a_class_keeps_the_labels(tmp_path: Path) -> None:
    save(tmp_path / "dog" / "1.png", noise(4, 4, 3))
    (tmp_path / "cat").mkdir()
    assert ImageFolder(str(tmp_path), classes=["cat", "dog"], **PLAIN)[0][1] == 1
    with pytest.raises(InputError, match="no folder 'cow'"):
        ImageFolder(str(tmp_path), classes=["cow", "dog"], **PLAIN)


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such folder"):
        ImageFolder(str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="no folders"):
        ImageFolder(str(tmp_path))
    (tmp_path / "a").mkdir()
    with pytest.raises(InputError, match="no image in 1 folder"):
        ImageFolder(str(tmp_path))


def test_a_file_that_is_not_an_image_is_named(tmp_path: Path) -> None:
    save(tmp_path / "a" / "1.png", noise(4, 4, 3))
    whole = (tmp_path / "a" / "1.png").read_bytes()
    (tmp_path / "a" / "2.png").write_bytes(whole[:40])
    data = ImageFolder(str(tmp_path), **PLAIN)
    with pytest.raises(InputError, match=r"2\.png"):
        data[1]


def test_an_image_that_does_not_exist_is_told_apart_from_a_broken_one(tmp_path: Path) -> None:
    with pytest.raises(InputError) as refused:
        ImageTransform(size=8).pixels(tmp_path / "3.png")
    assert (refused.value.problems[0].found, refused.value.problems[0].remedy) == ("no such file", "correct the path")


def test_transform_settings_out_of_range_are_refused_together() -> None:
    with pytest.raises(ConfigError) as caught:
        ImageTransform(size=8, resize=4, mean=(0.0,), std=(0.0,), interpolation="magic")
    assert len(caught.value.problems) == 3


def cifar(folder: Path, per_file: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """The five training files and the test file; labels (n,) and pixels (n, 3, 32, 32) of the training set."""
    folder.mkdir()
    labels, pixels = noise(5 * per_file, seed=1) % 10, noise(5 * per_file, 3, 32, 32)
    for file in range(5):
        rows = slice(file * per_file, (file + 1) * per_file)
        record = np.concatenate([labels[rows, None], pixels[rows].reshape(per_file, -1)], axis=1)
        (folder / f"data_batch_{file + 1}.bin").write_bytes(record.tobytes())
    (folder / "test_batch.bin").write_bytes(bytes([7]) + bytes(3072))
    return labels, pixels


def test_cifar_10_images_and_labels_in_the_order_of_the_files(tmp_path: Path) -> None:
    labels, pixels = cifar(tmp_path / "c")
    data = Cifar(str(tmp_path / "c"), mean=[0.0] * 3, std=[1.0] * 3)
    assert len(data) == 15
    for i in range(15):
        image, label = data[i]
        np.testing.assert_array_equal(image.numpy() * 255, pixels[i])
        assert label == labels[i]
    assert data.describe(4)["image"].shape == (32, 32, 3)
    test = Cifar(str(tmp_path / "c"), split="test")
    assert (len(test), test[0][1]) == (1, 7)
    check_repeatable(data, range(15))


def test_two_classes_of_cifar_get_labels_0_and_1(tmp_path: Path) -> None:
    labels, pixels = cifar(tmp_path / "c", per_file=40)
    data = Cifar(str(tmp_path / "c"), only=[5, 3], mean=[0.0] * 3, std=[1.0] * 3)
    rows = np.flatnonzero((labels == 5) | (labels == 3))
    assert [data[i][1] for i in range(len(data))] == [0 if labels[row] == 5 else 1 for row in rows]
    np.testing.assert_array_equal(data[len(rows) - 1][0].numpy() * 255, pixels[rows[-1]])
    some = Cifar(str(tmp_path / "c"), only=[5, 3], first=2, last=6)
    assert torch.equal(some[0][0], Cifar(str(tmp_path / "c"), only=[5, 3])[2][0])
    assert len(some) == 4


def test_cifar_100_takes_the_fine_label(tmp_path: Path) -> None:
    (tmp_path / "train.bin").write_bytes(bytes([3, 99]) + bytes(range(256)) * 12)
    data = Cifar(str(tmp_path), classes=100, mean=[0.0] * 3, std=[1.0] * 3)
    image, label = data[0]
    assert label == 99
    assert (image.reshape(-1)[:256] * 255).round().int().tolist() == list(range(256))


def test_the_pickled_version_of_cifar_is_not_read(tmp_path: Path) -> None:
    for i in range(1, 6):
        (tmp_path / f"data_batch_{i}").write_bytes(pickle.dumps({"data": 0}))
    with pytest.raises(InputError, match="pickled Python version is there; it is not read") as caught:
        Cifar(str(tmp_path))
    assert len(caught.value.problems) == 5


def test_a_cifar_file_cut_short_is_refused(tmp_path: Path) -> None:
    cifar(tmp_path / "c")
    (tmp_path / "c" / "data_batch_2.bin").write_bytes(bytes(3073 + 5))
    with pytest.raises(InputError, match=r"data_batch_2\.bin: found 3078 bytes"):
        Cifar(str(tmp_path / "c"))
    with pytest.raises(ConfigError) as caught:
        Cifar(str(tmp_path / "c"), split="valid", only=[3, 3])
    assert len(caught.value.problems) == 2


@pytest.mark.parametrize("shape", [(5, 3, 6, 4), (5, 6, 4, 3)], ids=["channels first", "channels last"])
@pytest.mark.parametrize("suffix", ["npz", "h5"])
def test_uint8_images_in_a_file_of_arrays(tmp_path: Path, shape: tuple[int, ...], suffix: str) -> None:
    images, labels, path = noise(*shape), np.arange(5), tmp_path / f"images.{suffix}"
    if suffix == "npz":
        np.savez(path, x=images, y=labels)
    else:
        with h5py.File(path, "w") as file:
            file.create_dataset("x", data=images, chunks=True, compression="gzip")
            file["y"] = labels
    data = ImageFile(str(path), mean=[0.0] * 3, std=[1.0] * 3)
    image, label = data[3]
    expected = images[3] if shape[1] == 3 else images[3].transpose(2, 0, 1)
    np.testing.assert_array_equal(image.numpy() * 255, expected)
    assert (len(data), label, image.dtype) == (5, 3, torch.float32)
    assert data.describe(3)["image"].shape == (6, 4, 3)


def test_grey_images_need_no_channel_axis(tmp_path: Path) -> None:
    np.savez(tmp_path / "grey.npz", x=noise(5, 6, 4), y=np.arange(5))
    data = ImageFile(str(tmp_path / "grey.npz"), mean=[0.5], std=[0.5])
    assert data[0][0].shape == (1, 6, 4)
    assert data.describe(0)["image"].shape == (6, 4)


@pytest.mark.parametrize(
    ("images", "labels"),
    [(noise(5, 6, 4, 3) / 255, np.arange(5)), (noise(5, 6, 4, 2), np.arange(5)), (noise(5, 3, 6, 4), np.ones(5))],
    ids=["floating images", "two channels", "floating labels"],
)
def test_arrays_that_are_not_images_are_refused(tmp_path: Path, images: np.ndarray, labels: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", x=images, y=labels)
    with pytest.raises(InputError, match=r"a\.npz"):
        ImageFile(str(tmp_path / "a.npz"))


def test_hdf5_rows_are_read_when_they_are_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "big.h5"
    values = np.arange(12.0).reshape(4, 3)
    with h5py.File(path, "w") as file:
        file["x"] = values
        file["y"] = np.arange(4)
    data = SampleFile(str(path))
    for i in range(4):
        x, y = data[i]
        assert x.dtype == torch.float32
        assert (x.tolist(), int(y)) == (values[i].tolist(), i)
    assert data[-1][1] == 3
    with pytest.raises(IndexError):
        data[4]
    with pytest.raises(InputError, match=r"no such dataset"):
        SampleFile(str(path), names=["x", "z"])
    with pytest.raises(InputError, match="no such file"):
        SampleFile(str(tmp_path / "nothing.h5"))
    with pytest.raises(ConfigError, match="single"):
        SampleFile(str(path), single=True)
