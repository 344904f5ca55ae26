"""Serve finished runs: a web page, and an API for programs.

- `server`: The application: pages, paths of the API, and errors as sentences.
- `service`: What a server does with a request: decode, batch, answer, keep corrections.
- `hosting`: Finished runs that answer together: loaded once, batched, replaced while in
  use.
- `stacked`: Several runs over one backbone: what they share is computed once.
- `batching`: Run requests that come together as one batch, in one thread.
- `uploads`: Read what clients send, within limits.
- `guard`: What every request passes before the server looks at it.
- `schemas`: What the server answers, for its OpenAPI description.
- `corrections`: Keep labelled examples that users of the server have corrected.
"""
