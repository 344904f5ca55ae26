"""What the numbers say: evaluation, figures, reports, studies of many trials.

- `evaluation`: Evaluate classifiers: metrics with intervals, and paired tests between
  two.
- `multi_label`: Evaluate models that predict several labels for each example.
- `regression`: Evaluate models that predict numbers.
- `calibration`: Probabilities that can be believed, and answers that are withheld.
- `unlike`: How unlike the training examples an example is, by what the model sees in
  it.
- `unlabelled`: What the answers of a model say about it, where there are no labels.
- `stopping`: When more pre-training no longer helps the task that it is for.
- `slices`: Accuracy by groups of test examples: dark and bright images, short and long
  texts.
- `explain`: What a classifier looks at: heat maps of its answers, and how true they
  are.
- `summary`: The results of a run side by side: on the test split, as a table, as
  figures.
- `figures`: Figures of a run: curves, confusion, predictions, comparison.
- `gallery`: Look at examples: of each class, augmented, and those that a model gets
  wrong.
- `report`: A run on one page: an HTML file that needs nothing else, to read, print or
  send.
- `comparison`: Finished runs side by side: paired tests, settings that differ, classes.
- `comparison_page`: Finished runs side by side on one page.
- `planner`: Decide how to train from what has been measured, and keep the reasons.
- `probe`: Classifiers on frozen features: logistic regression, nearest neighbours, SVM.
- `transferability`: Rank backbones for a task without training them: scores of frozen
  features.
- `candidates`: Models that might be trained on some data, to be ranked before one is.
- `learning_curve`: Learning curves: accuracy by the number of training examples, and
  its forecast.
- `ladder`: Cheap runs that each replace one part of a training by one that works.
- `diagnosis`: Which part of a training run costs the accuracy, and what to try next.
- `label_next`: What to label next: which of many examples without labels would teach
  most.
- `ranking`: Rank candidates for a user's data, without training them.
- `folds`: Cross-validation: each example is predicted once, by a model trained without
  it.
- `study`: Studies: many small trainings, each of which is kept as soon as it ends.
- `search`: Hyper-parameter search: each trial is suggested from the results of earlier
  ones.
- `doctor`: The data and the transfer, checked before training.
- `findings`: Findings of the checks before training: what is wrong, how bad, and what
  to do.
- `records`: What the checks of data need to know of each example, wherever it comes
  from.
- `file_checks`: Checks of files: what cannot be used, and what stands in names and
  headers.
- `split_checks`: Checks of examples of any kind: copies, leaks between splits, sizes of
  classes.
- `shortcut_checks`: Checks for shortcuts: what gives a label away without being what an
  example is about.
- `sound_checks`: Checks of clips of sound: lengths, formats, levels, and speakers in
  their names.
- `text_checks`: Checks of texts: those that say nothing, that were decoded wrongly, or
  are too long.
- `feature_checks`: Checks on frozen features: wrong labels, odd images, splits that
  differ.
- `model_checks`: Checks of a Keras model before training: its input, its head, its
  loss, its flags.
- `preprocessing_checks`: Check that a known backbone gets the pixels that its weights
  were trained on.
- `pipeline_checks`: Checks of input pipelines: order, shuffling, augmentation, and what
  `fit` is given.
- `script_checks`: Checks of a training script by its source, without running it.
- `doctor_page`: The findings on one page, with the images, clips and texts that show
  them.
"""
