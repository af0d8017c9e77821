"""The details below the stage, one tab a module."""

from mdfa_app.tabs.curves import CurvesTab
from mdfa_app.tabs.example import ExampleTab
from mdfa_app.tabs.export import ExportTab
from mdfa_app.tabs.layers import LayersTab
from mdfa_app.tabs.paper import PaperTab
from mdfa_app.tabs.plane import PlaneTab
from mdfa_app.tabs.tab import TABS, Tab
from mdfa_app.tabs.weights import WeightsTab

__all__ = ["TABS", "Tab"]

for _tab in (LayersTab, CurvesTab, ExampleTab, WeightsTab, PlaneTab, PaperTab, ExportTab):
    TABS.add(_tab.name, _tab)
