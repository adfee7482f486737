"""The page in a real browser: choose, click, and read the numbers as a visitor would."""

import re
import socket
import threading

import numpy as np
import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Keys

from mmseg_ctx.checkpoints.segmentor import load_segmentor
from mmseg_ctx.datasets.scenes import render_scene
from mmseg_ctx.visualization.explore.explorer import Explorer, read_prediction
from mmseg_ctx.visualization.explore.server import serving
from tests.models import write_model

pytestmark = pytest.mark.browser
# CAC wraps another method's head, so both have a panel.
HEADS = ('CaC-Net', 'ACNet', 'DMNet', 'CTNet', 'CAC on DMNet', 'FCN')
FACTOR = 8  # pixels of the picture for each of the image, which has 64×40


@pytest.fixture
def visit(browser, tmp_path):
    """A function that opens the page about a small model; it returns its explorer."""
    pages = []

    def open_page(head, folder=None, **test_data):
        config, checkpoint = write_model(head, tmp_path)
        segmentor = load_segmentor(config, checkpoint)
        segmentor.cfg.test_dataloader.dataset.update(test_data)
        explorer = Explorer(segmentor, folder)
        with socket.socket() as probe:
            probe.bind(('127.0.0.1', 0))
            port = probe.getsockname()[1]
        page = serving(explorer, head, port=port)
        browser.driver.get(page.__enter__())
        pages.append(page)
        browser.wait(lambda: browser.find('[role=tab]'))
        if explorer.test_count:
            browser.wait(lambda: browser.find('#picture img') and browser.text('#place'))
        return explorer

    yield open_page
    assert not [each for each in browser.addresses() if not each.startswith(ALLOWED)]
    assert browser.errors() == []
    for page in pages:
        page.__exit__(None, None, None)


ALLOWED = 'http://127.0.0.1:', 'data:', 'blob:'


def type_number(browser, index):
    """Type the number of an image beside the slider."""
    number = browser.find('input[type=number][aria-label*="Image of the test data"]')[0]
    number.send_keys(Keys.CONTROL, 'a')
    number.send_keys(str(index), Keys.TAB)


def choose_test_image(browser, index):
    """Type the number of an image beside the slider, and press the button."""
    type_number(browser, index)
    (button,) = (each for each in browser.find('button') if each.text == 'Show this image')
    button.click()
    browser.wait(lambda: browser.text('#caption').startswith(f'test image {index},'))


def settled_picture(browser):
    """Return the picture if it is there with its size, and nothing lies over it."""
    (picture,) = browser.find('#picture img')
    loaded = 'return arguments[0].complete && arguments[0].naturalWidth > 0'
    over = [each for each in browser.find('#picture .wrap') if each.is_displayed()]
    return picture if browser.driver.execute_script(loaded, picture) and not over else None


def click_pixel(browser, row, column):
    """Click the middle of a pixel of the picture."""
    picture = browser.wait(lambda: settled_picture(browser))
    browser.driver.execute_script('arguments[0].scrollIntoView({block: "center"})', picture)
    box = picture.rect
    across = ((column + 0.5) / 64 - 0.5) * box['width']
    down = ((row + 0.5) / 40 - 0.5) * box['height']
    ActionChains(browser.driver).move_to_element_with_offset(
        picture, across, down
    ).click().perform()
    browser.wait(lambda: browser.text('#place').startswith(f'Column {column}, row {row}:'))


def table_rows(browser, name, rows):
    """Return the cells of a method's table once they are there; a long table holds those seen."""
    found = browser.find(f'#{name}-table .virtual-body [role=gridcell]')
    cells = [each.text for each in found]
    lines = np.reshape(cells, (-1, len(rows[0])))
    filled = len(lines) >= min(len(rows), 3) and all(line[0] for line in lines)
    return lines.tolist() if filled else None


def check_numbers(browser, inspection, row, column):
    """Compare what stands on the page with what the model's tensors say of the pixel."""
    said = read_prediction(inspection, row, column)
    place = f'Column {column}, row {row}: predicted {said.predicted}'
    place += f', labelled {said.label}' if said.label else ''
    assert browser.text('#place') == place
    shown = re.findall(r'^(.+)\n(\d+)%$', browser.text('#probable'), re.MULTILINE)
    assert [name for name, _ in shown] == list(said.probabilities)
    for (_, percent), probability in zip(shown, said.probabilities.values(), strict=True):
        assert abs(int(percent) - 100 * probability) <= 0.51
    for method, context in inspection.methods:
        name = method.__name__.rsplit('.', 1)[-1]
        here = method.read_pixel(context, inspection.scene, row, column)
        sentence, columns, rows = method.describe_pixel(here, inspection.scene)
        browser.wait(lambda name=name, text=sentence: browser.text(f'#{name}-sentence') == text)
        table = browser.find(f'#{name}-table table')[-1]
        browser.driver.execute_script('arguments[0].scrollIntoView({block: "center"})', table)
        headers = [each.get_attribute('title') for each in browser.find(f'#{name}-table th')]
        assert headers == list(columns)
        lines = browser.wait(lambda name=name, rows=rows: table_rows(browser, name, rows))
        for line, expected in zip(lines, rows, strict=False):
            for cell, value in zip(line, expected, strict=True):
                if isinstance(value, float):
                    assert float(cell) == pytest.approx(value, abs=1e-4)
                else:
                    assert cell == ('' if value is None else str(value))
        assert browser.find(f'#{name}-figure img')[0].rect['width'] > 250


@pytest.mark.parametrize('head', HEADS)
def test_choose_click_and_read(head, browser, visit):
    explorer = visit(head)
    choose_test_image(browser, 2)
    inspection = explorer.inspect_test_image(2)
    check_numbers(browser, inspection, 20, 32)
    for row, column in ((3, 5), (39, 63), (27, 40)):
        click_pixel(browser, row, column)
        check_numbers(browser, inspection, row, column)
    no_context = [each for each in browser.find('p') if 'no context to show' in each.text]
    assert len(no_context) == (head == 'FCN')
    # Nothing runs out of the page.
    width = browser.driver.execute_script('return document.documentElement.clientWidth')
    assert browser.driver.execute_script('return document.documentElement.scrollWidth') <= width


def test_an_image_of_a_folder_where_there_is_no_test_data(browser, visit, tmp_path):
    folder = tmp_path / 'images'
    folder.mkdir()
    image, _ = render_scene(3, 3, 40, 64)
    Image.fromarray(image).save(folder / 'a <b>scene_.png')
    explorer = visit('DMNet', folder, type='ADE20KDataset')
    assert [tab.text for tab in browser.find('[role=tab]') if tab.text] == ['Folder', 'Upload']
    problem = [each.text for each in browser.find('p') if 'test data' in each.text]
    assert problem == [explorer.test_problem]
    passes = []
    explorer._segmentor.backbone.register_forward_hook(lambda *_: passes.append(1))
    (choice,) = browser.find('[aria-label="Image of the folder"]')
    choice.click()
    browser.wait(lambda: browser.text('[role=option]').endswith('a <b>scene_.png'))
    browser.find('[role=option]')[0].click()
    browser.wait(lambda: browser.text('#caption') == 'a <b>scene_.png, 64×40 pixels')
    click_pixel(browser, 30, 10)
    assert passes == [1]
    check_numbers(browser, explorer.inspect_folder_image('a <b>scene_.png'), 30, 10)


def test_a_tall_image_fits_into_the_window(browser, visit, tmp_path):
    Image.new('RGB', (10, 2000)).save(tmp_path / 'tall.png')
    visit('ACNet')
    (tab,) = (each for each in browser.find('[role=tab]') if each.text == 'Upload')
    tab.click()
    browser.wait(lambda: browser.find('input[type=file][accept*=png]'))
    browser.find('input[type=file][accept*=png]')[0].send_keys(str(tmp_path / 'tall.png'))
    browser.wait(lambda: browser.text('#caption') == 'uploaded image, 10×2000 pixels')
    picture = browser.wait(lambda: settled_picture(browser))
    assert picture.rect['height'] < browser.driver.execute_script('return window.innerHeight')
    browser.driver.execute_script('arguments[0].scrollIntoView({block: "center"})', picture)
    down = 0.25 * picture.rect['height']
    ActionChains(browser.driver).move_to_element_with_offset(picture, 0, down).click().perform()
    browser.wait(lambda: re.match(r'Column \d, row 1[45]\d\d:', browser.text('#place')))


def test_a_bar_shows_that_an_image_is_being_computed(browser, visit):
    explorer = visit('DMNet')
    inspect, goes_on = explorer.inspect_test_image, threading.Event()

    def inspect_slowly(index):
        goes_on.wait(60)
        return inspect(index)

    explorer.inspect_test_image = inspect_slowly
    (button,) = (each for each in browser.find('button') if each.text == 'Show this image')
    button.click()
    browser.wait(lambda: 'The model reads the image' in browser.text('#picture'))
    assert browser.find('#picture .progress-bar')
    # What is chosen meanwhile is shown afterwards.
    type_number(browser, 2)
    button.click()
    goes_on.set()
    browser.wait(lambda: browser.text('#caption').startswith('test image 2,'))
    browser.wait(lambda: not browser.find('#picture .progress-bar'))


def test_a_broken_upload_is_one_message_and_the_page_lives_on(browser, visit, tmp_path):
    explorer = visit('ACNet')
    (tab,) = (each for each in browser.find('[role=tab]') if each.text == 'Upload')
    tab.click()
    browser.wait(lambda: browser.find('input[type=file][accept*=png]'))
    for name in ('broken.png', 'again.png'):
        path = tmp_path / name
        path.write_bytes(b'<script>alert(1)</script>')
        browser.find('input[type=file][accept*=png]')[0].send_keys(str(path))
        browser.wait(lambda: browser.find('.toast-body'))
        messages = browser.find('.toast-body')
        assert len(messages) == 1
        assert 'the uploaded file is no JPEG, PNG, WebP or BMP image' in messages[0].text
        browser.find('.toast-close')[0].click()
        browser.wait(lambda: not browser.find('.toast-body'))
    click_pixel(browser, 9, 50)
    check_numbers(browser, explorer.inspect_test_image(0), 9, 50)
