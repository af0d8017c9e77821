"""How products are computed: the fastest exact kernels for layers and stacks of replicas, and replicas on threads.

Import `kernels` for the products and `threads` to work on replicas in parallel.
"""
