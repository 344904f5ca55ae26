"""Models: pretrained backbones, heads, and which layers train.

- `catalog`: Pretrained image backbones, and the facts that belong to their weights.
- `backbones`: Load pretrained image backbones; `catalog` has the table of them.
- `heads`: Attach a new classifier to a backbone.
- `freezing`: Freeze and unfreeze layers in a way that holds, and report which layers
  train.
- `splitting`: Cut a functional model into a stem and a tail where one tensor crosses
  the cut.
- `taps`: Features from any layers of a model, in one pass.
- `resizing`: The same model for images of another size.
- `text_backbones`: Load pretrained encoders of text, of the BERT family, through
  KerasHub.
- `word_vectors`: Word vectors as a backbone: learned by skip-gram from few sentences,
  or pretrained.
- `audio_backbones`: Load pretrained encoders of sound: Google's speech embedding, and
  Whisper's.
- `log_mel`: Compute log-mel spectrograms inside a model.
- `whisper_weights`: Read the weights of Whisper's encoder, as Hugging Face or as
  KerasHub keeps them.
- `hub_backbones`: Load pretrained image encoders of KerasHub: ViT, DINOv2, DINOv3,
  SigLIP and others.
- `efficientnet_lite`: EfficientNet-Lite0, the backbone whose ImageNet weights travel
  with the package.
- `small_cnn`: A small convolutional network to train from scratch: the baseline of
  transfer.
- `small_resnet`: A small residual network for images of 32 pixels: what pre-training
  begins with.
- `image_transform`: A network from images to pictures of the same size, for style
  transfer.
- `saving`: Save a model for use, without what only its training needs.
- `settings`: Settings of the backbone that recipes have in common; no model is built
  here.
- `untrusted`: What `.keras` and HDF5 files declare, and what makes them unsafe to load.
"""
