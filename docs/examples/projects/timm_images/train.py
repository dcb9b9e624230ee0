"""Trains a timm model on a folder of images: python train.py [--seed 0]."""

import argparse
from pathlib import Path

import timm
import torch
from PIL import Image
from sklearn.datasets import load_digits
from torchvision import datasets, transforms

NAMES = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]


def write_images(folder: Path) -> None:
    """The digits of scikit-learn as PNG files: images/train/CLASS/NUMBER.png and images/test/CLASS/NUMBER.png."""
    images, labels = load_digits(return_X_y=True)
    for number, (image, label) in enumerate(zip(images[:250], labels[:250], strict=True)):
        path = folder / ("train" if number < 200 else "test") / NAMES[label] / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((image.reshape(8, 8) * 15.9).astype("uint8")).resize((40, 40)).save(path)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=12)
    arguments = parser.parse_args()
    torch.manual_seed(arguments.seed)
    if not Path("images").exists():
        write_images(Path("images"))
    transform = transforms.Compose(
        [
            transforms.Resize(32),
            transforms.ToTensor(),
            transforms.Normalize((0.5, 0.5, 0.5), (0.5, 0.5, 0.5)),
        ]
    )
    train = datasets.ImageFolder("images/train", transform)
    test = datasets.ImageFolder("images/test", transform)
    model = timm.create_model("test_resnet", pretrained=False, num_classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    for epoch in range(arguments.epochs):
        model.train()
        for images, labels in torch.utils.data.DataLoader(train, batch_size=32, shuffle=True):
            loss = torch.nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            hits = sum((model(x).argmax(1) == y).sum().item() for x, y in torch.utils.data.DataLoader(test, batch_size=50))
        print(f"epoch {epoch + 1}: accuracy {hits / len(test):.2f}")
    torch.save(model.state_dict(), f"test_resnet_seed{arguments.seed}.pth")


if __name__ == "__main__":
    main()
