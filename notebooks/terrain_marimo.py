import marimo

__generated_with = "0.25.2"
app = marimo.App(width="full")


@app.cell
def _():
    import asyncio
    import time

    import marimo as mo
    from terrain import AZIMUTH, EXAGGERATION, EXAGGERATIONS, Terrain, light_at

    import pdum_rfb_widget as rfb

    return (
        AZIMUTH,
        EXAGGERATION,
        EXAGGERATIONS,
        Terrain,
        asyncio,
        light_at,
        mo,
        rfb,
        time,
    )


@app.cell
def _(mo):
    mo.md("""
    # Light on the Jacksboro fault

    Real heights from Tennessee, which ship with matplotlib, shaded by numpy in this process. Only pictures travel.

    **Drag** moves the light: the middle of the picture is high noon, the rim is dusk. **Wheel** zooms,
    **right-drag** pans, **arrow up / down** or the slider change the exaggeration, **r** or a double click starts over.
    """)
    return


@app.cell
async def _(Terrain, asyncio, rfb):
    terrain = Terrain(1280, 720)
    display = rfb.serve(1280, 720)
    display.publish(terrain.render())

    async def explore():
        async for ev in display.events():  # sleeps until somebody touches the picture
            changed = terrain.handle(ev.event)
            for more in display.poll_events():  # all that came meanwhile, for one render
                changed = terrain.handle(more.event) or changed
            if changed:
                display.publish(terrain.render())

    # Made in the display's own cell, the task goes with it: run again, the cell closes the old display, whose
    # events then end. The await lets the task begin and makes marimo run this cell inside its event loop.
    _task = asyncio.create_task(explore())
    await asyncio.sleep(0)
    return display, terrain


@app.cell
def _(EXAGGERATION, EXAGGERATIONS, mo):
    _low, _high = EXAGGERATIONS
    exaggeration = mo.ui.slider(_low, _high, step=0.25, value=EXAGGERATION, label="exaggeration", show_value=True)
    turn = mo.ui.run_button(label="turn the light")
    mo.hstack([exaggeration, turn], justify="start", gap=2)
    return exaggeration, turn


@app.cell
def _(display, mo):
    picture = mo.ui.anywidget(display.widget(sync_events=("pointer_down",)))
    picture
    return (picture,)


@app.cell
def _(display, light_at, mo, picture):
    click = picture.last_event  # set by the page, once a click: marimo then runs the cells that ask for `picture`
    if click:
        _azimuth, _altitude = light_at(click["x"], click["y"], display.width, display.height)
        _text = f"The last click asked for light from {_azimuth:.0f}°, {_altitude:.0f}° above the horizon."
    else:
        _text = "Click the picture."
    mo.md(_text)
    return


@app.cell
def _(display, exaggeration, terrain):
    terrain.exaggeration = exaggeration.value
    display.publish(terrain.render())
    return


@app.cell
def _(AZIMUTH, display, mo, terrain, time, turn):
    mo.stop(not turn.value)
    for step in range(90):  # the picture moves while this cell runs
        terrain.azimuth = (AZIMUTH + 4 * (step + 1)) % 360
        display.publish(terrain.render())
        time.sleep(1 / 30)
    return


if __name__ == "__main__":
    app.run()
