"""Training: phases, devices, and features of frozen layers that are kept.

- `phases`: Train a model in phases: first the head, then fine-tuning.
- `checks`: Check that model, data and settings of a phase go together, before it
  trains.
- `selection`: Select the epoch of a phase whose weights are kept, and describe the
  choice.
- `placement`: Place training on one device, or on several with the same weights on
  each.
- `workers`: Several machines that train one model, each on its share of every batch.
- `objectives`: Objectives of training: loss, metrics and evaluation for each kind of
  labels.
- `optimizers`: Learning rates by layer: one optimizer, one rate, and a factor for each
  weight.
- `speed`: How long training takes on this machine, measured on a few batches; and its
  end.
- `schedules`: Schedules of the learning rate over a phase.
- `gradients`: Gradients with respect to inputs, which Keras itself has no function for.
- `rate_finder`: Find a learning rate: train some steps with growing rates, and observe
  the loss.
- `stages`: Fine-tuning by blocks: gradual unfreezing, and learning rates that fall by
  block.
- `features`: Run the frozen part of a model once, and keep its features.
- `store`: Features of frozen layers, kept on disk: each example runs through a stem
  once.
- `code`: Describe Python code and the values that it reads, so that a change is
  noticed.
- `terms`: Terms that a training method adds to the loss of the labels.
- `checkpoint`: Save and restore the complete state of a training phase.
- `progress`: Show the progress of training, and stop it when its loss is not finite.
- `settings`: Settings of training that recipes have in common; nothing heavy is
  imported here.
"""
