"""Published methods, one in each module; each adds a term to the loss, or layers.

- `regularizers`: Regularize fine-tuning where labels are few: L2-SP, DELTA, BSS, LwF.
- `ewc`: Elastic weight consolidation: weights that the old classes depend on move
  little.
- `lora`: LoRA: keep pretrained kernels as they are and train a low-rank change of each.
- `sentence_pairs`: Bring examples of one class together, before a head is fitted.
- `distillation`: Distillation: a small model learns from the answers of a large one.
- `pruning`: Magnitude pruning: the smallest weights become zero and stay so.
- `zero_shot`: Classes without an image, known by their descriptions: ESZSL, DeViSE.
- `multi_task`: Several tasks on the same images: one backbone, one pass, a head for
  each.
- `domain_adaptation`: Domain adaptation: labels of one domain, and examples without
  labels of another.
- `importance`: Importance weighting: examples of a source count as often as a target
  has the like.
- `self_supervised`: Self-supervised learning: features from images without any label.
- `style`: Style transfer: a picture with the content of one image and the style of
  another.
- `fixmatch`: FixMatch: confident answers for images without labels become their labels.
"""
