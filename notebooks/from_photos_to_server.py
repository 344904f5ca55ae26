# %% [markdown]
# # From a folder of photos to a model that is served and updated
#
# Everything between a folder of images and a model that others use: check, train, look
# at the answers, export, serve, and teach it a new class. Each step is one command or
# one call; put your own folder in place of the one that is made here.

# %%
import importlib.util

if importlib.util.find_spec("keras_tl") is None:
    raise SystemExit("Please install keras-tl in this kernel: pip install -e CHECKOUT")

# %%
# %matplotlib inline
import base64
import json
import subprocess
import sys
import urllib.request
from pathlib import Path

import keras_tl.quiet

import numpy as np
from IPython.display import Image as Picture
from IPython.display import display
from PIL import Image

import keras_tl
from keras_tl.analysis import figures, gallery
from keras_tl.data import datasets
from keras_tl.deploy import artifact

# %% [markdown]
# ## A folder of photos
# One sub-folder for each class. These are three classes of the sample of CIFAR-10 that
# travels with the package, and a fourth for later.

# %% tags=["parameters"]
known, new = ("cat", "horse", "ship"), "truck"
of_each, minutes = 100, 1.2

# %%
sample = datasets.sample()


def write(folder, names):
    for name in names:
        label = sample.class_names.index(name)
        place = Path(folder, name)
        place.mkdir(parents=True, exist_ok=True)
        for index in np.flatnonzero(sample.train.labels == label)[:of_each]:
            pixels = sample.train.read([index])[0]
            Image.fromarray(pixels).save(place / f"{index}.png")


write("photos", known)
write("more_photos", [new])
data = datasets.load("photos")
gallery.samples(data.train, data.class_names)

# %% [markdown]
# ## Train
# On the command line: `keras-tl train photos --minutes 1.2 --out runs/photos`. What is
# wrong with the data would be refused; what is decided is printed with its reason.

# %%
model = keras_tl.train("photos", minutes=minutes, out=Path("runs/photos"))

# %% [markdown]
# ## Look at the answers
# Probabilities are calibrated, the model says where it is not sure, and it notices an
# image that is like none that it was trained on: here noise, and a truck.

# %%
noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype="uint8")
truck = np.asarray(Image.open(next(Path("more_photos", new).iterdir())))
right = np.asarray(Image.open(next(Path("photos", known[0]).iterdir())))
pictures = [right, truck, noise]
answers = model.answer(pictures, feature_maps=True)
for picture, values, note in zip(
    (known[0], new, "noise"), answers.values, answers.notes, strict=True
):
    best = values.argmax()
    print(f"{picture:6} {model.class_names[best]:6} {values[best]:.2f}  {note}")

# %% [markdown]
# What it looks at, and the training image that is most like it:

# %%
best = answers.values.argmax(axis=1)
maps = model.examples.heat_maps(answers.feature_maps, best)
nearest = model.examples.nearest(answers.embeddings, 1)[:, 0]
print([model.examples.names[index] for index in nearest])
size = answers.feature_maps.shape[1:3]
shown = []
for picture, one in zip(pictures, maps, strict=True):
    larger = Image.fromarray((255 * one).astype("uint8")).resize((128, 128))
    square = np.asarray(Image.fromarray(picture).resize((128, 128)))
    shown += [square, gallery.overlay(square, np.asarray(larger) / 255)]
titles = [f"{model.class_names[n]}" for n in best]
figures.grid(shown, [t for title in titles for t in (title, "looks at")], columns=6)

# %% [markdown]
# ## Export
# `keras-tl export runs/photos` writes a folder that needs neither keras-tl nor Keras:
# the model for LiteRT, what it takes and gives, and a short program. The export is
# compared with the model on real images before it is written.


# %%
def command(*arguments):
    line = [sys.executable, "-m", "keras_tl", *map(str, arguments)]
    ended = subprocess.run(line, capture_output=True, text=True, check=False)
    print(ended.stdout[-2500:])
    if ended.returncode not in (0, 1):
        raise RuntimeError(ended.stderr)


command("export", "runs/photos", "--format", "litert", "--out", "exported")
photo = next(Path("photos", known[1]).iterdir())
program = [sys.executable, "exported/predict.py", photo]
print(subprocess.run(program, capture_output=True, text=True, check=True).stdout)

# %% [markdown]
# ## Serve
# `keras-tl serve runs/photos` answers on a web page and to programs, on this machine
# alone unless told otherwise.

# %%
line = [sys.executable, "-u", "-m", "keras_tl", "serve", "runs/photos", "--port", "0"]
server = subprocess.Popen(
    line, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
)
address = None
while address is None:
    words = server.stdout.readline().split()
    address = next((word.rstrip(".") for word in words if "http://" in word), None)
print("The server listens.")

# %%
content = base64.b64encode(photo.read_bytes()).decode()
request = urllib.request.Request(
    f"{address.rstrip('/')}/v1/predict",
    json.dumps({"images": [content]}).encode(),
    {"Content-Type": "application/json"},
)
with urllib.request.urlopen(request) as answered:
    answer = json.load(answered)
result = answer["answers"][0]["results"][0]
{name: value for name, value in result.items() if not isinstance(value, str)}

# %%
server.terminate()  # What it has begun is answered first.
server.communicate()
print("The server has ended.")

# %% [markdown]
# ## Update
# `keras-tl update runs/photos --data more_photos` teaches a new class. A model that
# only sees the new images forgets the old ones; an update rehearses them, is measured
# on the old test images class by class, and rejected where it has made them worse.

# %%
command("update", "runs/photos", "--data", "more_photos", "--out", "runs/photos-2")

# %%
updated = artifact.load("runs/photos-2")
print(updated.class_names)
values = updated.predict([truck])[0]
print(updated.class_names[values.argmax()], round(float(values.max()), 2))
display(Picture(filename="runs/photos-2/confusion.png", width=400))

# %% [markdown]
# ## What to try next
# The page of `keras-tl serve` takes photos by dropping, pasting or the camera, and
# keeps what you correct: `keras-tl update runs/photos --data runs/photos-corrections`.
# What a quarter of the size costs: `keras-tl export runs/photos --format litert-int8`.
