"""Finished runs: save one, load one, predict with it.

- `run_folder`: Save the model and the results of a run into its folder.
- `artifact`: Load the model of a finished run, and use it for predictions.
- `answers`: Answers of a model, and what is needed to judge them.
- `prediction`: Predict with a finished run, for the command `keras-tl predict`.
- `export`: Export a finished run: a folder that needs neither keras-tl nor its run.
- `conversion`: Convert a trained model to the formats of other runtimes.
- `standalone`: The program `predict.py` that goes with an exported model.
- `exported`: Use and measure an export: accuracy, size, latency, memory.
- `run_data`: The data of a finished run, loaded again by its settings, as its model
  takes them.
- `compiled`: A model as one compiled function, for use after training.
- `exemplars`: Examples that a run keeps of its data, so that it can be updated when
  they are gone.
- `update_data`: Old and new examples of an update, without what would falsify its
  measurement.
- `update`: Update a finished run with more examples, or with new classes.
- `versions`: The line of a run and its updates: which version is in use.
- `contents`: Describe a model file without executing anything.
- `inspection`: Describe a model file in a process of its own, with limits.
"""
