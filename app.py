"""One local page in Chinese and English: try the networks, look inside them, rate them blind (MOS); see docs/app.md."""

if __name__ == "__main__":  # before what takes seconds to import
    from support.start import start_script

    start_script()

import os
import secrets
import socket
import tempfile
from functools import partial
from pathlib import Path

from data.catalog import TEST_SETS
from engine.rating import PreparedTest, Ratings, prepare_test
from engine.rating_routes import add_rating
from engine.scoring import load_networks, load_test_images
from engine.trying import find_checkpoints, pictures_inside, try_by_name
from report.replays import runs_html
from report.tables import Table
from report.words import Language, number
from support.command_line import ROOT, Parser, UserError, add_data_arguments, add_device_argument, run_script
from support.devices import choose_device
from support.files import check_writable
from support.web import web_application

LOCAL = ("127.0.0.1", "localhost")
LOOK = (
    "在“试一试”里放大一幅图像，再点图中一处。左：网络为它用了哪些 LR 像素（橙：使细节更多，蓝：更少），扩散指数 DI；"
    "右：有效感受野及其半径 r。",
    "Enlarge an image in Try, then click in it. Left: which LR pixels a network used for it (orange adds detail, "
    "blue removes it), with the diffusion index DI; right: its effective receptive field, of radius r.",
)


def parse_args(argv=None):
    """Return the checked command line of app.py."""
    parser = Parser(description=__doc__)
    parser.add_argument("--host", default=LOCAL[0], help="address to serve; 0.0.0.0 for other machines too")
    parser.add_argument("--port", type=int, default=7860, help="port; 0 takes a free one")
    parser.add_argument("--token", help="word in the page's address (default: with --host a random one, else none)")
    parser.add_argument(
        "--weights", type=Path, nargs="+", metavar="FILE.pth", help="networks to rate, of one scale (default: weights/)"
    )
    parser.add_argument("--dataset", default="Set5", help=f"images to rate: {', '.join(TEST_SETS)}, or a folder of HR")
    parser.add_argument("--out", type=Path, default=ROOT / "report", help="folder whose results/mos.csv takes ratings")
    add_device_argument(parser)
    add_data_arguments(parser)
    args = parser.parse_args(argv)
    if not 0 <= args.port < 65536:
        parser.error(f"--port is {args.port}; allowed is 0 to 65535")
    if args.token is not None and not (args.token.isascii() and args.token.isalnum() and len(args.token) >= 8):
        parser.error("--token takes at least 8 letters and digits")
    return args


def table_of(trial, say):
    """Return a Trial's numbers as a Markdown table."""
    columns = say(("图像", "像素", "秒"), ("picture", "pixels", "seconds")) + ("PSNR (dB)", "SSIM") * trial.is_hr
    rows = []
    for row in trial.rows:
        values = (row["name"], f"{row['width']}×{row['height']}", number(row["seconds"]), number(row["psnr"]))
        rows.append((*values, number(row["ssim"], "{:.4f}"))[: len(columns)])
    return Table("trial", "", columns, tuple(rows)).markdown()


def on_try(file, names, is_hr, progress, say, device):
    """Return the values of the tab Try: Trial, text, slider, its two names, error maps, downloads, picture to click."""
    import gradio as gr

    try:
        trial = try_by_name(file, names, device, is_hr=is_hr, say=lambda share, line: progress(share, desc=line))
    except (UserError, OSError) as error:  # the page knows no folders
        return None, str(error).replace(f"{Path(file or '/').parent}/", ""), *[None] * 6
    pictures = [*trial.pictures]
    names = [gr.Dropdown(choices=pictures, value=name) for name in pictures[:2]]
    errors = gr.Gallery([(str(path), name) for name, path in trial.errors.items()], visible=trial.is_hr)
    paths = [str(path) for path in trial.pictures.values()]
    return trial, table_of(trial, say), trial.sides(*pictures[:2]), *names, errors, paths, paths[1]


def on_place(trial, names, place, progress, device):
    """Return the values of the tab Look inside: the maps with their captions, and a text."""
    try:
        found = pictures_inside(trial, names, *place, device, lambda share, line: progress(share, desc=line))
    except UserError as error:
        return None, str(error)
    maps = []
    for one, attribution, field in found:
        name = one.label.rpartition("/")[2]
        maps += [(attribution, f"{name}: DI {one.diffusion:.1f}"), (field, f"{name}: r {one.radius:.1f} px")]
    return maps, ""


def make_page(say, device):
    """Return the Gradio page in a language."""
    import gradio as gr

    def trying(file, names, is_hr, progress=gr.Progress()):  # noqa: B008
        return on_try(file, names, is_hr, progress, say, device)

    def looking(trial, names, event: gr.SelectData, progress=gr.Progress()):  # noqa: B008
        return on_place(trial, names, event.index, progress, device)

    title = say("图像超分辨率", "Image super-resolution")
    buttons = {"format": "png", "buttons": ["download", "fullscreen"]}  # Gradio's own would share pictures elsewhere
    shown = buttons | {"object_fit": "contain", "height": "auto"}
    with gr.Blocks(title=title, analytics_enabled=False, delete_cache=(600, 3600)) as page:
        trial = gr.State(time_to_live=3600)
        gr.Markdown(f"## {title} · " + say("[English](../en/)", "[中文](../zh/)"))
        with gr.Tab(say("试一试", "Try")), gr.Row():
            with gr.Column(scale=1, min_width=260):
                file = gr.File(label=say("照片", "photo"), height=140, elem_id="photo")
                checkpoints = [*find_checkpoints(ROOT)]
                names = gr.CheckboxGroup(checkpoints, value=checkpoints[:1], label=say("网络", "networks"))
                is_hr = gr.Checkbox(label=say("这是 HR：先缩小，再比较", "this is HR: shrink it first, then compare"))
                button = gr.Button(say("放大", "Enlarge"), variant="primary", elem_id="enlarge")
                said = gr.Markdown(elem_id="said")
            with gr.Column(scale=2, min_width=320):
                hint = say("拖动分界线；指针处放大", "drag the line, point to magnify")
                slider = gr.ImageSlider(type="filepath", label=hint, elem_id="slider", interactive=False, **buttons)
                with gr.Row():
                    sides = [
                        gr.Dropdown([], label=side, min_width=120) for side in say(("左", "右"), ("left", "right"))
                    ]
                errors = gr.Gallery(columns=3, visible=False, label=say("误差", "errors") + " |SR − HR|", **shown)
                files = gr.File(label=say("下载 PNG", "download PNG"), interactive=False, elem_id="files")
        with gr.Tab(say("看原因", "Look inside")):
            gr.Markdown(say(*LOOK))
            looked = gr.Markdown(elem_id="looked")
            with gr.Row():
                place = gr.Image(type="filepath", interactive=False, elem_id="place", label="SR", **buttons)
                maps = gr.Gallery(columns=2, label=say("各网络", "each network"), elem_id="maps", **shown)
        with gr.Tab(say("打分", "Rate")):
            address = f"../rate?lang={say.name}"
            link = f'<a href="{address}">{say("单独打开", "on its own")}</a>'
            gr.HTML(f'{link}<iframe id="rate" src="{address}" title="MOS"></iframe>')
        with gr.Tab(say("回放", "Replay")):
            gr.HTML(lambda: runs_html(ROOT / "runs", say), elem_id="replays")
        alone = {"concurrency_limit": 1, "concurrency_id": "networks", "api_visibility": "private"}
        button.click(trying, [file, names, is_hr], [trial, said, slider, *sides, errors, files, place], **alone)
        place.select(looking, [trial, names], [maps, looked], **alone)
        for side in sides:
            side.input(lambda one, *two: one and one.sides(*two), [trial, *sides], slider, api_visibility="private")
    return page


def make_server(test, prefix, hosts, device):
    """Return the web application. test: PreparedTest. prefix: of each address, with the token. hosts: it answers to."""
    import gradio as gr
    from fastapi.responses import RedirectResponse
    from fastapi.staticfiles import StaticFiles

    server, assets = web_application(hosts), ROOT / "report"
    for name in ("manifest.json", "favicon.ico"):  # which Gradio's page asks for
        server.get(f"/{name}")(lambda: {})
    server.get(f"{prefix}/")(lambda: RedirectResponse(f"{prefix}/zh/"))
    server.mount(f"{prefix}/fonts", StaticFiles(directory=assets / "fonts"))
    add_rating(server, f"{prefix}/rate", test, assets / "rating.html")
    # fonts of the machine itself: Gradio's own would be fetched
    theme = gr.themes.Default(font=["system-ui", "Noto Sans SC", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    look = {"theme": theme, "css_paths": assets / "app.css", "footer_links": [], "ssr_mode": False}
    script = (assets / "magnifier.js").read_text(encoding="utf-8")
    look["head"] = f'<link rel="icon" href="data:,"><script>{script}</script>'
    for language in Language.NAMES:
        page = make_page(Language(language), device)
        gr.mount_gradio_app(server, page, f"{prefix}/{language}", max_file_size="100mb", **look)
    return server


def main(argv=None):
    """Serve the page until it is interrupted."""
    args, cache = parse_args(argv), tempfile.TemporaryDirectory()
    if args.dataset not in TEST_SETS:  # whose images are looked for, and fetched, when the first rater comes
        load_test_images(args.dataset, args.data_dir, args.source)
    # before its import: no statistics, no questions to the hub, a folder that vanishes
    os.environ |= {"GRADIO_ANALYTICS_ENABLED": "False", "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_TELEMETRY": "1"}
    os.environ["GRADIO_TEMP_DIR"] = cache.name
    try:
        import gradio  # noqa: F401
        import uvicorn
    except ImportError as error:
        raise UserError(f"app.py needs Gradio ({error}); pip install -r requirements-app.txt") from None
    device, ratings = choose_device(args.device), args.out / "results" / "mos.csv"
    check_writable(ratings.parent)
    Ratings(ratings)  # refuses another file of this name
    networks = load_networks(args.weights or sorted(ROOT.glob("weights/*.pth")), None, device)
    test = PreparedTest(partial(prepare_test, ratings, networks, args.dataset, args.data_dir, args.source))
    local = args.host in LOCAL
    prefix = f"/{args.token or secrets.token_urlsafe(12)}" if args.token or not local else ""
    with cache, socket.create_server((args.host, args.port)) as place:
        server = make_server(test, prefix, LOCAL if local else ["*"], device)
        print(f"http://{args.host}:{place.getsockname()[1]}{prefix}/ until Ctrl-C; ratings: {ratings}", flush=True)
        settings = uvicorn.Config(server, log_level="warning", access_log=False, timeout_graceful_shutdown=2)
        uvicorn.Server(settings).run(sockets=[place])


if __name__ == "__main__":
    run_script(main)
