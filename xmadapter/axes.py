"""Glossary of axis names, as they stand in shape annotations.

| axis | meaning |
|---|---|
| `seeds` | episodes side by side; `#seeds` may be 1 for what all seeds share |
| `batch` | rows in one call |
| `n` | rows in a set |
| `support` | few-shot rows of one episode |
| `queries` | rows an adapter is asked to classify |
| `views` | encodings of one image; view 0 is the test transform |
| `classes` | classes, in the order of the manifest's class names |
| `prompts` | prompts of one class |
| `dim` | width of the joint image-text space |
| `points` | hyperparameter settings tried at once |
"""
