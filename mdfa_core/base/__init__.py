"""Basics that every room uses: errors, registries, random generators, devices, colours, and facts about the machine.

- `errors`: the exceptions; `MdfaError` is the base of all of them.
- `registry`: `Registry`, the mapping behind every choice by name.
- `rng`: random generators as functions of seed, purpose and counter.
- `devices`, `machine`: devices by name, CPU cores, processor, commit.
- `schema`, `text`: values from files and messages that show them.
- `colours`: the colours and dashes of rules and layers, light and dark.
- `types`: field types of dataclasses; `child`: child processes; `distribution`: the installed package.
"""
