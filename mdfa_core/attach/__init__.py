"""Train any PyTorch model by a learning rule of this package: `attach` it, keep your loop, `measure` its errors.

`mdfa_core.attach.lightning` has a callback for Lightning; import it only if that package is installed.
"""

from mdfa_core.attach.attached import Attached
from mdfa_core.attach.attaching import attach
from mdfa_core.attach.measuring import Measurement, measure
from mdfa_core.attach.tensorboard import TensorBoard

__all__ = ["Attached", "Measurement", "TensorBoard", "attach", "measure"]
