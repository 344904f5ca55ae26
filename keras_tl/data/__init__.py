"""Examples: where they come from, and how they become batches.

- `datasets`: Load data of any kind: folders, tables, arrays, the embedded sample, TFDS.
- `folders`: A folder of files, one sub-folder for each class, as three splits.
- `tables`: A table of files and their labels as three splits.
- `tfds_data`: A dataset of `tensorflow_datasets` as three splits.
- `hugging_face`: A folder that Hugging Face's `datasets` has saved, as three splits.
- `stored`: Datasets that other libraries store, of images, texts or sound, as three
  splits.
- `packing`: Pack a data set into a few large files, and read it again as it was.
- `packs`: The folder that `keras-tl pack` writes: shards, a list of examples, and an
  index.
- `shards`: Examples in a few large files, read by their place in any order.
- `remote`: Folders at an address, such as s3://bucket/folder: their files, by fsspec.
- `assembly`: Splits of files, wherever their labels come from: checked, and drawn.
- `drawing`: Draw the splits that are missing, in blocks that have to stay together.
- `duplicates`: Images that look alike, and blocks of examples that have to stay
  together.
- `layout`: List the files of a folder with their splits and classes, and all the rest.
- `kinds`: Kinds of files that hold one example each: how they are told apart and read.
- `audio`: Sound: folders and tables of it as splits of clips of one length.
- `clips`: Clips of sound, decoded to one length each time they are read.
- `waves`: Decode clips of sound to one channel, one rate and one length, and check
  them.
- `sound_files`: Files of sound: which are read, what they hold, and what is wrong with
  one.
- `spectrogram`: Draw spectrograms of sound, for people.
- `images`: Decode image files to square uint8 RGB arrays, and check them.
- `pictures`: Pictures of any shape: read, scaled, written, cut into squares, and some
  at hand.
- `text`: Texts: decoded, and turned into the token ids that a model takes.
- `text_files`: Texts in files of their own, and in the rows of tables, as a kind of
  examples.
- `languages`: Describe texts: how long they are, and in which languages.
- `descriptions`: Descriptions of classes: words, or attributes, from which unseen ones
  are known.
- `sources`: Sequences of examples that are read by index, whatever the examples are.
- `splits`: Examples with their labels, and the three splits of a dataset.
- `pipeline`: From examples to batches: shuffled, augmented, padded, weighted,
  prefetched.
- `augment`: Random changes of training images, on whole batches, after the cache.
- `augment_audio`: Random changes of training clips of sound, on whole batches, after
  the cache.
- `warp`: Turn, shift, shear, zoom and flip whole batches of images, sampling pixels
  once.
- `random_layers`: Keras's RandAugment, MixUp and CutMix, with the random numbers of the
  pipeline.
- `choices`: Values that the settings of data take; nothing heavy is imported here.
- `settings`: Settings of the data that recipes have in common; nothing heavy is
  imported here.
"""
