"""What a server does with a request: decode, batch, answer, keep corrections."""

import asyncio
import os
import sys
from concurrent.futures import ThreadPoolExecutor

import prometheus_client as prometheus
from starlette.exceptions import HTTPException

from keras_tl import errors
from keras_tl.serving import hosting, uploads
from keras_tl.serving.batching import Room
from keras_tl.serving.uploads import Limits


class Metrics:
    """What Prometheus reads of a server."""

    def __init__(self):
        self.registry = prometheus.CollectorRegistry()
        self.requests = prometheus.Counter(
            "keras_tl_requests",
            "Requests, by what was asked and the status of the answer.",
            ["path", "status"],
            registry=self.registry,
        )
        self.seconds = prometheus.Histogram(
            "keras_tl_predict_seconds",
            "Seconds from a request to its predictions.",
            buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
            registry=self.registry,
        )
        self.batch = prometheus.Histogram(
            "keras_tl_batch_examples",
            "Examples that were computed together.",
            buckets=(1, 2, 4, 8, 16, 32),
            registry=self.registry,
        )
        self.inside = prometheus.Gauge(
            "keras_tl_examples_inside",
            "Examples that are decoded, wait or are computed.",
            registry=self.registry,
        )


class Service:
    """What the routes of a server share.

    Args:
        host: The runs.
        limits: What a request may ask for.
        queue: Most examples that are inside at a time.
        metrics: What is counted.
    """

    def __init__(
        self, host: hosting.Host, limits: Limits, queue: int, metrics: Metrics
    ):
        self.host, self.limits, self.metrics = host, limits, metrics
        self.room = Room(queue)
        metrics.inside.set_function(lambda: self.room.inside)
        self._threads = ThreadPoolExecutor(os.cpu_count(), "decoder")

    def close(self) -> None:
        """Answer what waits, and stop."""
        self._threads.shutdown()
        self.host.close()

    def chosen(self, names: list[str], given: uploads.Inputs) -> list[hosting.Hosted]:
        """Return the runs that a request names.

        Raises:
            HTTPException: One that is not served, or that takes other examples.
        """
        chosen = [self.host.find(n) for n in names or self.host.names[:1]]
        if None in chosen:
            raise HTTPException(404, "No model of this name is served: see /v1/models.")
        (asked,) = given.kinds
        for one in chosen:
            if one.accepts != asked:
                raise HTTPException(
                    422, f"The model takes {one.accepts}, and {asked} came."
                )
        return chosen

    async def in_thread(self, function, *arguments):
        """Run a function beside the loop; decoding has as many threads as cores."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, function, *arguments)

    async def predict(self, question: uploads.Question) -> list[dict]:
        """Return the answers to a request, of each model that it names.

        Raises:
            HTTPException: None of its examples can be used.
            FullError: There is no room for it.
        """
        chosen = self.chosen(question.model, question)
        examples = question.examples
        engines = {id(hosted.engine): hosted for hosted in chosen}
        with self.room.take(len(examples) * len(engines)):
            computed = await asyncio.gather(
                *(self._compute(one, examples) for one in engines.values())
            )
            outputs = dict(zip(engines, computed, strict=True))
            answers = [
                await self._results(hosted, question, *outputs[id(hosted.engine)])
                for hosted in chosen
            ]
        if all("error" in one for results in answers for one in results):
            raise HTTPException(422, answers[0][0]["error"])
        return [
            {"model": hosted.name, "results": results}
            for hosted, results in zip(chosen, answers, strict=True)
        ]

    async def _compute(self, hosted, examples) -> tuple:
        """Return what the engine gives for the good examples, and what is wrong."""

        async def prepared(example):
            try:
                return await self.in_thread(hosted.prepare, example, self.limits)
            except errors.InputError as error:
                return {"error": str(error)}

        rows = await asyncio.gather(*map(prepared, examples))
        good = [row for row in rows if not isinstance(row, dict)]
        problems = [row if isinstance(row, dict) else None for row in rows]
        if not good:
            return None, problems
        future = self.host.batcher.submit(hosted.engine, good)
        return await asyncio.wrap_future(future), problems

    async def _results(self, hosted, question, outputs, problems) -> list[dict]:
        computed = iter(())
        if outputs is not None:
            computed = iter(
                await self.in_thread(hosting.results, hosted, question, outputs)
            )
        return [problem or next(computed) for problem in problems]

    async def correct(self, given: uploads.Correction) -> dict:
        """Keep an example with its right label.

        Raises:
            HTTPException: It is not one example, or cannot be kept.
        """
        (hosted,) = self.chosen(given.model, given)
        examples = given.examples
        if len(examples) != 1:
            raise HTTPException(422, "A correction is about one example.")

        def check():
            hosted.corrections.check(given.label)
            hosted.prepare(examples[0], self.limits)

        def keep():
            example = examples[0]
            if hosted.model.kind != "text":
                example = uploads.content_of(example)
            return hosted.corrections.add(example, given.label)

        with self.room.take(1):
            try:
                await self.in_thread(check)
            except errors.InputError as error:
                raise HTTPException(422, str(error)) from None
            try:
                return {"model": hosted.name, "kept": await self.in_thread(keep)}
            except errors.InputError as error:
                print(f"A correction of {hosted.name}: {error}", file=sys.stderr)
                raise HTTPException(
                    507, "It could not be kept; the server's log says why."
                ) from None
