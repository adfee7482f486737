"""The page in a real browser: choose, click, and read the numbers as a visitor would."""

import re

import pytest
from PIL import Image
from selenium.webdriver import ActionChains, Keys

from mmseg_ctx.checkpoints.segmentor import load_segmentor
from mmseg_ctx.datasets.scenes import render_scene
from mmseg_ctx.visualization.explore.explorer import Explorer
from mmseg_ctx.visualization.explore.page import serving
from tests.helpers import free_port
from tests.small_models import METHODS, write_model

pytestmark = pytest.mark.browser
# CAC wraps another method's head, so both have a panel.
HEADS = (*METHODS, 'CAC on DMNet', 'FCN')
ALLOWED = 'http://127.0.0.1:', 'data:', 'blob:'


@pytest.fixture
def visit(browser, tmp_path):
    """A function that opens the page about a small model; it returns its explorer."""
    pages = []

    def open_page(head, images=(), **test_data):
        segmentor = load_segmentor(*write_model(head, tmp_path))
        segmentor.cfg.test_dataloader.dataset.update(test_data)
        explorer = Explorer(segmentor)
        port = free_port()
        page = serving(explorer, head, images, port=port)
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


def choose_test_image(browser, index):
    """Type the number of an image beside the slider."""
    number = browser.find('input[type=number][aria-label*="Image of the test data"]')[0]
    number.send_keys(Keys.CONTROL, 'a')
    number.send_keys(str(index), Keys.TAB)
    browser.wait(lambda: browser.text('#caption').startswith(f'test image {index},'))


def upload(browser, path):
    (tab,) = (each for each in browser.find('[role=tab]') if each.text == 'Upload')
    tab.click()
    browser.wait(lambda: browser.find('input[type=file][accept*=png]'))
    browser.find('input[type=file][accept*=png]')[0].send_keys(str(path))


def settled_picture(browser):
    """Return the picture if it is there with its size, and nothing lies over it."""
    (picture,) = browser.find('#picture img')
    loaded = 'return arguments[0].complete && arguments[0].naturalWidth > 0'
    over = [each for each in browser.find('#picture .wrap') if each.is_displayed()]
    return picture if browser.driver.execute_script(loaded, picture) and not over else None


def click(browser, across, down):
    """Click a place of the picture, as shares of its size from its middle."""
    picture = browser.wait(lambda: settled_picture(browser))
    browser.driver.execute_script('arguments[0].scrollIntoView({block: "center"})', picture)
    box = picture.rect
    place = across * box['width'], down * box['height']
    ActionChains(browser.driver).move_to_element_with_offset(picture, *place).click().perform()


def click_pixel(browser, row, column):
    """Click the middle of a pixel of a picture of 64×40 pixels."""
    click(browser, (column + 0.5) / 64 - 0.5, (row + 0.5) / 40 - 0.5)
    browser.wait(lambda: browser.text('#place').startswith(f'Column {column}, row {row}:'))


def check_numbers(browser, inspection, row, column):
    """Compare what stands on the page with what the model's tensors say of the pixel."""
    browser.wait(lambda: browser.text('#place') == inspection.describe(row, column))
    shown = re.findall(r'^(.+)\n(\d+)%$', browser.text('#probable'), re.MULTILINE)
    expected = inspection.probable_at(row, column)
    assert [name for name, _ in shown] == list(expected)
    for (_, percent), probability in zip(shown, expected.values(), strict=True):
        assert abs(int(percent) - 100 * probability) <= 0.51
    for method, context in inspection.methods:
        name = method.__name__.rsplit('.', 1)[-1]
        answer = method.at_pixel(context, inspection.prediction, (row, column))
        sentence, columns, rows, _ = answer
        browser.wait(lambda name=name, text=sentence: browser.text(f'#{name}-sentence') == text)
        lines = [each.text for each in browser.find(f'#{name}-table tr')]
        assert lines[0] == ' '.join(columns)
        assert len(lines) == len(rows) + 1  # of CAC, one for each class
        for cell in rows[-1]:
            assert (f'{cell:.4f}' if isinstance(cell, float) else str(cell or '')) in lines[-1]
        # Nothing of the table is cut off.
        table, place = (browser.find(f'#{name}-table{part}')[0].rect for part in (' table', ''))
        assert table['width'] <= place['width']
        assert table['height'] <= place['height']
        assert browser.find(f'#{name}-figure img')[0].rect['width'] > 250


@pytest.mark.parametrize('head', HEADS)
def test_choose_click_and_read(head, browser, visit):
    explorer = visit(head)
    choose_test_image(browser, 2)
    inspection = explorer.test_image(2)
    check_numbers(browser, inspection, *inspection.telling_pixel())
    for row, column in ((3, 5), (39, 63)):
        click_pixel(browser, row, column)
        check_numbers(browser, inspection, row, column)
    # Nothing runs out of the page.
    width = browser.driver.execute_script('return document.documentElement.clientWidth')
    assert browser.driver.execute_script('return document.documentElement.scrollWidth') <= width


def test_an_image_of_a_folder_where_there_is_no_test_data(browser, visit, tmp_path):
    path = tmp_path / 'a <b>scene_.png'
    Image.fromarray(render_scene(3, 3, 40, 64)[0]).save(path)
    explorer = visit('DMNet', [str(path)], type='ADE20KDataset')
    assert [tab.text for tab in browser.find('[role=tab]') if tab.text] == ['Folder', 'Upload']
    assert any(explorer.test_problem in each.text for each in browser.find('div'))
    (choice,) = browser.find('[aria-label="Image of the folder"]')
    choice.click()
    browser.wait(lambda: browser.text('[role=option]').endswith('a <b>scene_.png'))
    browser.find('[role=option]')[0].click()
    browser.wait(lambda: browser.text('#caption') == 'a <b>scene_.png, 64×40 pixels')
    click_pixel(browser, 30, 10)
    check_numbers(browser, explorer.file(path), 30, 10)


def test_a_click_beside_the_picture_and_a_broken_upload_leave_the_page_alive(
    browser, visit, tmp_path, capfd
):
    explorer = visit('ACNet')
    click(browser, 0.52, 0)
    for name in ('broken.png', 'again.png'):
        (tmp_path / name).write_bytes(b'<script>alert(1)</script>')
        upload(browser, tmp_path / name)
        message = f'{name} cannot be read as an image'
        browser.wait(lambda text=message: text in browser.text('.toast-body'))
        assert len(browser.find('.toast-body')) == 1
        browser.find('.toast-close')[0].click()
        browser.wait(lambda: not browser.find('.toast-body'))
    click_pixel(browser, 9, 50)
    check_numbers(browser, explorer.test_image(0), 9, 50)
    assert 'Traceback' not in capfd.readouterr().err
