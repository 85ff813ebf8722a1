"""The page: controls on the left, one example on the right (Dash)."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from margipose.draw import cube, draw_skeleton, encode_png, pose_scene
from margipose.view.examples import ANY, STORED, Example, Examples

if TYPE_CHECKING:
    from dash import Dash

__all__ = ["make_app"]

ALL_JOINTS = "all joints"
TRUTH, FOUND, ALIGNED = "ground truth", "prediction", "aligned prediction"
ENLARGED_PX = 384

STYLE = """
body { margin: 0; color: #1c1e21; background: #ffffff;
  font: 15px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif; }
#page { display: grid; grid-template-columns: 17rem minmax(0, 1fr); min-height: 100vh; }
#controls { background: #f4f6f8; padding: 1rem; border-right: 1px solid #d5d9de; }
#controls h1 { font-size: 1.15rem; margin: 0 0 0.2rem; }
#controls > label { display: block; margin: 0.9rem 0 0.2rem; font-weight: 600; }
#controls .quiet, .quiet { color: #5a6067; font-size: 0.9rem; }
#example { padding: 1rem 1.2rem 3rem; min-width: 0; }
#example h2 { font-size: 1.1rem; margin: 0 0 0.3rem; overflow-wrap: anywhere; }
#pictures { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start; }
#pictures > div { flex: 1 1 32rem; min-width: 0; }
#pictures > .narrow { flex: 0 0 24rem; max-width: 100%; }
#pictures img { max-width: 100%; border-radius: 6px; display: block; }
#steps { display: flex; gap: 0.5rem; margin-top: 0.4rem; }
#steps input { width: 5rem; font: inherit; padding: 0.2rem 0.4rem; }
button { font: inherit; padding: 0.25rem 0.8rem; border: 1px solid #b9bfc6; border-radius: 5px;
  background: #ffffff; cursor: pointer; }
h3 { font-size: 0.98rem; margin: 0.6rem 0 0.3rem; }
table { border-collapse: collapse; font-size: 0.9rem; }
th, td { padding: 0.15rem 0.7rem; text-align: left; border-bottom: 1px solid #e3e6e9; }
td { text-align: right; font-variant-numeric: tabular-nums; }
tr.chosen { background: #fff1dd; }
@media (max-width: 50rem) { #page { grid-template-columns: 1fr; } }
"""

INDEX = """<!DOCTYPE html>
<html lang="en"><head>{%metas%}<title>{%title%}</title>{%favicon%}{%css%}<style>STYLE</style></head>
<body>{%app_entry%}<footer>{%config%}{%scripts%}{%renderer%}</footer></body></html>""".replace("STYLE", STYLE)


def make_app(examples: Examples) -> Dash:
    """The page for a data set, as a Dash application, whose `server` is a WSGI application.

    Raises:
        ImportError: without Dash or plotly (extra `view`).
    """
    try:
        from dash import Dash, Input, Output, State, ctx
        from dash.exceptions import PreventUpdate
    except ImportError as error:
        raise ImportError("the page needs Dash: pip install 'margipose[view]'") from error

    # Nothing of the working directory is served, and nothing is loaded from elsewhere.
    app = Dash(
        "margipose.view",
        title=f"MargiPose: {examples.records.name}",
        update_title="",
        include_assets_files=False,
        serve_locally=True,
        index_string=INDEX,
    )
    app.layout = _layout(examples)
    filters, skeleton = examples.filters(), examples.dataset.skeleton
    chosen = [Input("column", "value"), Input("value", "value"), Input("order", "value")]

    def rows_of(column: object, value: object, order: object) -> np.ndarray:
        try:
            return examples.rows(str(column), str(value), str(order))
        except ValueError:  # the column has just changed, and the value has not yet
            if value in filters.get(str(column), ()):
                raise PreventUpdate from None
            return examples.rows(order=str(order) if order in examples.orders else STORED)

    @app.callback(Output("value", "options"), Output("value", "value"), Input("column", "value"))
    def change_column(column: str) -> tuple[list[str], str]:
        return [ANY, *filters.get(column, [])], ANY

    @app.callback(
        Output("position", "value"),
        Output("position", "max"),
        Output("count", "children"),
        *chosen,
        Input("back", "n_clicks"),
        Input("forward", "n_clicks"),
        State("position", "value"),
    )
    def move(column: str, value: str, order: str, _: int, __: int, position: object) -> tuple[int, int, str]:
        count = len(rows_of(column, value, order))
        step = {"back": -1, "forward": 1}.get(str(ctx.triggered_id))
        place = 1 if step is None else _whole(position, count) + step
        return min(max(place, 1), count), count, f"of {count} examples"

    @app.callback(
        Output("about", "children"),
        Output("scores", "children"),
        Output("image", "src"),
        Output("cube", "figure"),
        Output("poses", "figure"),
        Output("errors", "children"),
        *chosen,
        Input("position", "value"),
        Input("joint", "value"),
        Input("stage", "value"),
        Input("shown", "value"),
    )
    def show(
        column: str, value: str, order: str, position: object, joint: str, stage: str, shown: list[str] | None
    ) -> tuple[Any, ...]:
        rows = rows_of(column, value, order)
        row = int(rows[_whole(position, len(rows)) - 1])
        joint_or_none = joint if joint in skeleton.joints else None
        stage = stage if stage in examples.stages else examples.stages[-1]
        try:
            example = examples.example(row, stage)
        except (ValueError, OSError) as error:
            return str(error), "", "", _empty("no picture"), _empty("no poses"), ""
        visible = {text for text in shown or () if isinstance(text, str)}
        scores = ", ".join(f"{name} {text}" for name, text in examples.scores(row).items())
        notes = "no depth labels: they lie at z = 0" if example.flat else ""
        return (
            f"row {row}: {example.about}",
            " · ".join(filter(None, (scores, notes))),
            _image(example, visible),
            _cube(example, joint_or_none, visible),
            _poses(example, joint_or_none, visible),
            _errors(example, joint_or_none),
        )

    return app


def _whole(position: object, count: int) -> int:
    """A position that the page asks for, as a number from 1 to `count`."""
    try:
        number = int(position)  # type: ignore[call-overload]
    except (TypeError, ValueError, OverflowError):
        number = 1
    return min(max(number, 1), count)


def _layout(examples: Examples) -> Any:
    from dash import dcc, html

    skeleton, predicts = examples.dataset.skeleton, examples.loaded is not None
    kinds = [TRUTH, FOUND, ALIGNED] if predicts else [TRUTH]
    joints = [ALL_JOINTS, *({"label": j.replace("_", " "), "value": j} for j in skeleton.joints)]
    orders = [{"label": text, "value": key} for key, text in examples.orders.items()]

    def choice(name: str, label: str, options: list, value: str) -> list:
        return [
            html.Label(label, htmlFor=name),
            dcc.Dropdown(options, value, id=name, clearable=False, searchable=len(options) > 12),
        ]

    controls = [
        html.H1(examples.records.name),
        html.Div("with predictions" if predicts else "labels only: no network was given", className="quiet"),
        html.Label("Example", htmlFor="position"),
        dcc.Input(id="position", type="number", value=1, min=1, max=len(examples), step=1, debounce=True),
        html.Span(
            f"of {len(examples)} examples", id="count", className="quiet", style={"marginLeft": "0.5rem"}
        ),
        html.Div([html.Button("← back", id="back"), html.Button("next →", id="forward")], id="steps"),
        *choice("order", "Order", orders, STORED),
        *choice("column", "Filter by", [ANY, *examples.filters()], ANY),
        *choice("value", "that is", [ANY], ANY),
        *choice("joint", "Joint", joints, ALL_JOINTS),
        *choice("stage", "Heatmaps", examples.stages, examples.stages[-1]),
        html.Label("Show"),
        dcc.Checklist(kinds, kinds[:2], id="shown"),
        html.P("Orange is the person's left, blue their right.", className="quiet"),
    ]
    graph = {"displaylogo": False, "responsive": True}
    example = [
        html.H2(id="about"),
        html.Div(id="scores", className="quiet"),
        html.Div(
            [
                html.Div(
                    [html.H3("What the network sees"), html.Img(id="image", alt="The crop")],
                    className="narrow",
                ),
                html.Div(
                    [
                        html.H3("Normalised space and heatmaps"),
                        dcc.Graph(id="cube", config=graph, style={"height": "560px"}),
                    ]
                ),
                html.Div([html.H3("Errors"), html.Div(id="errors")], className="narrow"),
                html.Div(
                    [
                        html.H3("Relative to the pelvis, in mm"),
                        dcc.Graph(id="poses", config=graph, style={"height": "460px"}),
                    ]
                ),
            ],
            id="pictures",
        ),
    ]
    return html.Div([html.Div(controls, id="controls"), html.Main(example, id="example")], id="page")


def _image(example: Example, visible: set[str]) -> str:
    """The crop with the poses, label thin beneath and prediction above, as a data URI."""
    factor = max(1, ENLARGED_PX // max(example.crop.shape[:2]))
    image = cv2.resize(example.crop, None, fx=factor, fy=factor, interpolation=cv2.INTER_CUBIC)
    if TRUTH in visible:
        pale = draw_skeleton(image, (example.truth_px + 0.5) * factor - 0.5, example.skeleton)
        image = (
            cv2.addWeighted(image, 0.45, pale, 0.55, 0)
            if FOUND in visible and example.found_px is not None
            else pale
        )
    if FOUND in visible and example.found_px is not None:
        image = draw_skeleton(image, (example.found_px + 0.5) * factor - 0.5, example.skeleton)
    return "data:image/png;base64," + base64.b64encode(encode_png(image)).decode("ascii")


def _cube(example: Example, joint: str | None, visible: set[str]) -> Any:
    found = example.found_norm if FOUND in visible else None
    truth = example.truth_norm if TRUTH in visible else None
    nothing = np.full((len(example.skeleton), 3), np.nan)
    main = found if found is not None else truth if truth is not None else nothing
    reference = truth if found is not None else None
    figure = cube(
        example.crop,
        example.heatmaps,
        main,
        example.skeleton,
        joint,
        reference_norm=reference,
        menu=False,  # the page has its own
    )
    below = {"orientation": "h", "x": 0.5, "xanchor": "center", "y": 0.0, "yanchor": "top"}
    return figure.update_layout(legend=below, margin={"l": 0, "r": 0, "t": 10, "b": 60})


def _poses(example: Example, joint: str | None, visible: set[str]) -> Any:
    poses = {FOUND: example.found_mm, TRUTH: example.truth_mm, ALIGNED: example.aligned_mm}
    kept = {name: pose for name, pose in poses.items() if pose is not None and name in visible}
    return pose_scene(kept, example.skeleton, joint) if kept else _empty("nothing to show in mm")


def _empty(text: str) -> dict[str, Any]:
    return {
        "data": [],
        "layout": {
            "xaxis": {"visible": False},
            "yaxis": {"visible": False},
            "annotations": [{"text": text, "showarrow": False, "font": {"size": 15}}],
        },
    }


def _errors(example: Example, joint: str | None) -> Any:
    from dash import html

    if example.errors_mm is None or example.aligned_errors_mm is None:
        return "There are errors in mm where there are a prediction and 3D labels."

    def text(value: float) -> str:
        return f"{value:.0f}" if np.isfinite(value) else "–"

    rows = [
        html.Tr(
            [html.Th(name.replace("_", " ")), html.Td(text(error)), html.Td(text(aligned))],
            className="chosen" if name == joint else "",
        )
        for name, error, aligned in zip(example.skeleton.joints, example.errors_mm, example.aligned_errors_mm)
    ]
    head = html.Tr([html.Th("joint"), html.Th("mm"), html.Th("aligned, mm")])
    return html.Table([html.Thead(head), html.Tbody(rows)])
