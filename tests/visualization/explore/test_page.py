"""The page through Gradio's client and plain requests; a real browser is `make test-browser`'s."""

import base64
import http.client
import io
import json
import math
import os
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from gradio_client import Client, handle_file
from gradio_client.exceptions import AppError
from PIL import Image

from mmseg_ctx.datasets.scenes import CLASSES, render_scene
from mmseg_ctx.visualization.explore.explorer import read_prediction
from mmseg_ctx.visualization.explore.guard import MAX_BODY_BYTES
from mmseg_ctx.visualization.explore.images import MAX_FILE_BYTES
from mmseg_ctx.visualization.explore.page import plain
from mmseg_ctx.visualization.explore.server import require_free, serving
from tests.models import HEADS


def free_port():
    with socket.socket() as probe:
        probe.bind(('127.0.0.1', 0))
        return probe.getsockname()[1]


@pytest.fixture(scope='module')
def page(make_explorer):
    """The explorer of a model with two methods, the address of its page, and its folder."""
    explorer = make_explorer('CAC on DMNet')
    with serving(explorer, 'a model', port=free_port()) as address:
        yield explorer, address, Path(os.environ['GRADIO_TEMP_DIR'])


@pytest.fixture
def client(page):
    return Client(page[1], verbose=False, download_files=False)


def picture(value):
    """The RGB picture of an image component."""
    assert value['path'] is None
    kind, content = value['url'].split(',')
    assert kind == 'data:image/png;base64'
    return np.array(Image.open(io.BytesIO(base64.b64decode(content))))


def check_answer(answer, inspection, row, column):
    """Check what stands beside the image: place, bars, and sentence, figure, table a method."""
    text, bars, *panels = answer
    said = read_prediction(inspection, row, column)
    assert text.startswith(f'### Column {column}, row {row}: predicted {plain(said.predicted)}')
    assert (', labelled ' in text) == (said.label is not None)
    confidences = {each['label']: each['confidence'] for each in bars['confidences']}
    assert confidences == pytest.approx(said.probabilities)
    assert len(panels) == 3 * len(inspection.methods)
    for index, (method, context) in enumerate(inspection.methods):
        sentence, figure, table = panels[3 * index : 3 * index + 3]
        here = method.read_pixel(context, inspection.scene, row, column)
        expected = method.describe_pixel(here, inspection.scene)
        assert sentence == plain(expected.sentence)
        assert picture(figure).std() > 10
        assert table['headers'] == list(expected.columns)
        for shown, row_of_numbers in zip(table['data'], expected.rows, strict=True):
            for cell, value in zip(shown, row_of_numbers, strict=True):
                if isinstance(value, float):
                    assert float(cell) == pytest.approx(value, abs=1e-4)
                else:
                    assert cell == ('' if value is None else value)


@pytest.mark.parametrize('head', [*HEADS, 'FCN'])
def test_the_numbers_on_the_page_are_the_models(head, make_explorer):
    explorer = make_explorer(head)
    inspection = explorer.inspect_test_image(1)
    with serving(explorer, 'a model', port=free_port()) as address:
        client = Client(address, verbose=False, download_files=False)
        caption, shown, _, covers, column, row, *answer = client.predict(1, api_name='/test_image')
        assert caption == 'test image 1, 64×40 pixels'
        assert picture(shown).shape == (320, 512, 3)
        assert [choice for choice, _ in covers['choices']] == [
            'prediction',
            'ground truth',
            'errors',
            'nothing',
        ]
        assert (column['value'], row['value']) == (32, 20)
        check_answer(answer, inspection, 20, 32)
        _, *answer = client.predict(7, 31, 'prediction', 0.5, api_name='/pixel')
        check_answer(answer, inspection, 31, 7)
        texts = json.dumps(client.config['components'])
        assert ('there is no context to show' in texts) == (head == 'FCN')


def test_every_source_of_images(page, client, tmp_path):
    explorer, _, _ = page
    image, _ = render_scene(5, 0, 40, 64)
    answers = {
        'scene of seed 5': (client.predict(5, api_name='/scene'), explorer.inspect_scene(5)),
        'street.png': (
            client.predict('street.png', api_name='/folder_image'),
            explorer.inspect_folder_image('street.png'),
        ),
    }
    Image.fromarray(image).save(tmp_path / 'mine.png')
    upload = client.predict(handle_file(tmp_path / 'mine.png'), api_name='/upload')
    answers['uploaded image'] = upload, explorer.inspect_upload(tmp_path / 'mine.png')
    for name, ((caption, *rest), inspection) in answers.items():
        height, width = inspection.scene.prediction.shape
        assert caption == f'{plain(name)}, {width}×{height} pixels'
        check_answer(rest[5:], inspection, height // 2, width // 2)
    # An upload has no ground truth.
    assert [choice for choice, _ in upload[3]['choices']] == ['prediction', 'nothing']
    (choices,) = [client.predict(api_name='/folder')['choices']]
    assert choices == [['street.png', 'street.png']]


def test_a_new_cover_and_a_pixel_of_it(client):
    client.predict(0, api_name='/test_image')
    image, label = render_scene(1, 0, 40, 64)
    bare = picture(client.predict(63, 39, 'nothing', 1, api_name='/picture'))
    np.testing.assert_array_equal(bare[:40:8, :40:8], image[:5, :5])
    truth = picture(client.predict(63, 39, 'ground truth', 1, api_name='/picture'))
    assert label[0, 0] == CLASSES.index('sky')
    assert truth[0, 0].tolist() == [135, 206, 235]


def test_wrong_requests_are_one_message_and_the_page_lives_on(page, client, tmp_path):
    text, cut, huge = (tmp_path / name for name in ('text.png', 'cut.png', 'huge.png'))
    text.write_text('<svg onload="alert(1)"/>')
    Image.new('RGB', (300, 300)).save(cut)
    cut.write_bytes(cut.read_bytes()[:60])
    Image.new('1', (20000, 20000)).save(huge)
    before = 'choose an image first'
    cases = [
        (('/pixel', 1, 1, 'prediction', 0.5), before),
        (('/picture', 1, 1, 'prediction', 0.5), before),
        (('/upload', handle_file(text)), 'the uploaded file is no JPEG, PNG, WebP or BMP image'),
        (('/upload', handle_file(cut)), 'the uploaded file cannot be read as an image: '),
        (('/upload', handle_file(huge)), 'the uploaded file has more than 50 million pixels'),
        (('/upload', None), 'no file was uploaded'),
        (('/folder_image', '../street.png'), ''),
        (('/scene', -1), ''),
        (('/test_image', 99), ''),
    ]
    for (name, *values), message in cases:
        with pytest.raises(AppError) as caught:
            client.predict(*values, api_name=name)
        assert message in str(caught.value)
        assert 'Traceback' not in str(caught.value)
    client.predict(0, api_name='/test_image')
    outside = [
        ((64, 0), 'greater than maximum value 63'),
        ((0, -1), 'less than minimum value 0'),
        ((0, None), 'the row must be 0 to 39, got None'),
    ]
    for place, message in outside:
        with pytest.raises(AppError, match=message):
            client.predict(*place, 'prediction', 0.5, api_name='/pixel')
    client.predict(63, 39, 'prediction', 0.5, api_name='/pixel')


def files_below(folder):
    return [path for path in folder.rglob('*') if path.is_file()]


def test_an_upload_is_kept_nowhere(page, client, tmp_path):
    folder = page[2]
    assert folder.stat().st_mode & 0o77 == 0
    for content in (b'no image', None):
        path = tmp_path / 'mine.png'
        if content is None:
            Image.new('RGB', (30, 20)).save(path)
            client.predict(handle_file(path), api_name='/upload')
        else:
            path.write_bytes(content)
            with pytest.raises(AppError):
                client.predict(handle_file(path), api_name='/upload')
        assert files_below(folder) == []


def wait_until(condition):
    end = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_an_upload_that_is_never_asked_for_or_breaks_off_is_removed(make_explorer, monkeypatch):
    monkeypatch.setattr('mmseg_ctx.visualization.explore.server.SECONDS_KEPT', 1)
    boundary = 'b' * 20
    part = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="x.png"\r\n'
        'Content-Type: image/png\r\n\r\n'
    ).encode() + b'0' * 2_000_000
    headers = {'Content-Type': f'multipart/form-data; boundary={boundary}'}
    with serving(make_explorer('FCN'), 'a model', port=free_port()) as address:
        folder = Path(os.environ['GRADIO_TEMP_DIR'])
        whole = part + f'\r\n--{boundary}--\r\n'.encode()
        assert request(address, 'POST', '/gradio_api/upload', whole, headers)[0] == 200
        # Nor does a folder stay, which is named after what was in the file.
        wait_until(lambda: not list(folder.iterdir()))
        connection = http.client.HTTPConnection(address.split('/')[2])
        length = {'Content-Length': str(2 * len(part))}
        connection.request('POST', '/gradio_api/upload', part, {**headers, **length})
        wait_until(lambda: files_below(folder))
        connection.close()
        wait_until(lambda: not files_below(folder))


def test_the_folder_of_uploads_goes_with_the_page(make_explorer):
    before = os.environ.get('GRADIO_TEMP_DIR')
    with serving(make_explorer('FCN'), 'a model', port=free_port()):
        folder = Path(os.environ['GRADIO_TEMP_DIR'])
        assert folder.is_dir()
    assert not folder.exists()
    assert os.environ.get('GRADIO_TEMP_DIR') == before


def request(address, method, path, body=None, headers={}):
    """Send a request as it stands; return status, headers and body."""
    connection = http.client.HTTPConnection(address.split('/')[2], timeout=30)
    # http.client refuses what an attacker's own program would send.
    connection._validate_path = lambda url: None
    try:
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        return response.status, response.headers, response.read()
    finally:
        connection.close()


def test_no_file_of_the_server_is_behind_an_address(page, picture_folder):
    _, address, folder = page
    (folder / 'left').mkdir(exist_ok=True)
    (folder / 'left/secret.png').write_text('a secret')
    files = [
        str(folder / 'left/secret.png'),
        str(picture_folder / 'street.png'),
        str(picture_folder / '../passwords.txt'),
        str(Path(__file__)),
        '/etc/passwd',
        '../../../../../../etc/passwd',
        '..%2f..%2f..%2f..%2f..%2fetc%2fpasswd',
        '%2e%2e/%2e%2e/%2e%2e/%2e%2e/etc/passwd',
        '/etc/passwd%00.png',
        'http://127.0.0.1:1/',
    ]
    roots = [
        '/gradio_api/file=',
        '/gradio_api/file/',
        '/gradio_api//file=',
        '/file=',
        '/gradio_api/proxy=',
        '/gradio_api/stream/',
        '/static/',
        '/assets/',
        '/svelte/',
        '/',
    ]
    for root in roots:
        for name in files:
            status, _, body = request(address, 'GET', root + name)
            assert status in (400, 403, 404, 405), (root, name)
            assert b'root:' not in body
            assert b'a secret' not in body
    (folder / 'left/secret.png').unlink()


def test_addresses_that_the_page_does_not_use_are_closed(page):
    _, address, _ = page
    for path in ('/docs', '/openapi.json', '/monitoring', '/gradio_api/vibe-edit/', '/login'):
        for method in ('GET', 'POST'):
            assert request(address, method, path)[0] == 404
    status, headers, body = request(address, 'GET', '/')
    assert status == 200
    policy = headers['content-security-policy']
    assert "default-src 'self'" in policy
    assert 'http' not in policy
    assert b'fonts.googleapis' not in body


def send_event(client, address, name, *data, **event):
    """Send what a browser would send for an event, whatever the data; return the answer."""
    functions = {each['api_name']: each['id'] for each in client.config['dependencies']}
    session = client.session_hash
    body = dict(data=data, event_data=event, fn_index=functions[name], session_hash=session)
    headers = {'Content-Type': 'application/json'}
    path = '/gradio_api/queue/join'
    assert request(address, 'POST', path, json.dumps(body).encode(), headers)[0] == 200
    return request(address, 'GET', f'/gradio_api/queue/data?session_hash={session}')[2].decode()


@pytest.mark.parametrize(
    'path',
    [
        '/etc/passwd',
        '../../etc/passwd',
        'http://127.0.0.1:9/a.png',
        'file:///etc/passwd',
        'own.png',
        '{current}/own.png',
    ],
)
def test_an_upload_is_what_was_uploaded_and_no_other_file(
    path, page, client, tmp_path, monkeypatch
):
    """A request of an attacker's own making names a file that was never uploaded."""
    _, address, folder = page
    monkeypatch.chdir(tmp_path)
    Image.new('RGB', (9, 9)).save('own.png')
    path = path.format(current=tmp_path)
    file = dict(path=path, url=path, orig_name='a.png', meta=dict(_type='gradio.FileData'))
    events = send_event(client, address, 'upload', file, 'prediction', 0.5)
    assert '"success":false' in events
    # Gradio itself would fetch what lies at an address.
    assert ('Upload a file.' in events) == path.startswith('http')
    assert 'root:' not in events
    assert files_below(folder) == []
    assert Path('own.png').exists()


def test_numbers_that_no_browser_sends_are_one_message(page, client):
    _, address, _ = page
    client.predict(0, api_name='/test_image')
    view = 'prediction', 0.5
    cases = [
        (('pixel', None, 5, 5, 'prediction', math.nan), 'the opacity must be 0 to 1, got nan'),
        (('pixel', None, 5, 5, 'prediction', 2), 'Value 2 is greater than maximum value 1.'),
        (('pixel', None, math.inf, 5, *view), 'Value inf is greater than maximum value 63.'),
        (('test_image', math.nan, *view), 'cannot convert float NaN to integer'),
        (('folder_image', '../street.png', *view), 'is not in the list of choices'),
    ]
    for data, message in cases:
        events = send_event(client, address, *data)
        assert '"success":false' in events
        assert message in events
    clicked = dict(index=[-1, 10**300], value=None)
    events = send_event(client, address, 'show_clicked', None, *view, **clicked)
    assert '"error":"the column must be 0 to 63, got -1"' in events
    client.predict(5, 5, 'prediction', 0.5, api_name='/pixel')


def test_an_upload_that_is_too_large_is_refused(page):
    _, address, folder = page
    boundary = 'b' * 20
    body = (
        f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="../../x.png"\r\n'
        'Content-Type: image/png\r\n\r\n'
    ).encode() + b'0' * (MAX_FILE_BYTES + 10)
    body += f'\r\n--{boundary}--\r\n'.encode()
    headers = {'Content-Type': f'multipart/form-data; boundary={boundary}'}
    status, _, answer = request(address, 'POST', '/gradio_api/upload', body, headers)
    assert status == 413
    assert b'maximum allowed size' in answer
    assert files_below(folder) == []


def test_a_request_that_is_too_large_is_refused(page):
    """Gradio takes a thousand files in one form, and holds other fields in memory."""
    _, address, folder = page
    path = '/gradio_api/upload'
    kind = {'Content-Type': 'multipart/form-data; boundary=b'}
    large = {'Content-Length': str(MAX_BODY_BYTES + 1)}
    unknown = {'Transfer-Encoding': 'chunked'}
    for headers in (large, unknown, {**unknown, 'Content-Length': '1'}):
        assert request(address, 'POST', path, None, {**kind, **headers})[0] == 413
    assert request(address, 'POST', '/gradio_api/queue/join', None, large)[0] == 413
    assert files_below(folder) == []


def test_no_other_site_can_read_the_page_by_a_name_that_means_this_machine(page):
    _, address, _ = page
    port = address.rstrip('/').rsplit(':', 1)[1]
    for name, status in (('localhost', 200), ('127.0.0.1', 200), ('example.com', 400)):
        assert request(address, 'GET', '/config', headers={'Host': f'{name}:{port}'})[0] == status


def has_address(host):
    try:
        require_free(host, 0)
    except OSError:
        return False
    return True


# Not every machine has IPv6.
@pytest.mark.parametrize('host', ['localhost', '0.0.0.0', *filter(has_address, ['::1'])])
def test_other_addresses_to_listen_at(host, make_explorer):
    with serving(make_explorer('FCN'), 'a model', host, free_port()) as address:
        assert request(address, 'GET', '/')[0] == 200


def test_a_proxy_of_the_network_is_not_asked_for_this_machine(make_explorer, monkeypatch):
    for name in ('http_proxy', 'HTTP_PROXY', 'all_proxy', 'ALL_PROXY'):
        monkeypatch.setenv(name, f'http://127.0.0.1:{free_port()}')
    monkeypatch.setenv('no_proxy', 'example.com')
    with serving(make_explorer('FCN'), 'a model', port=free_port()) as address:
        assert request(address, 'GET', '/')[0] == 200
    assert os.environ['no_proxy'] == 'example.com'


def test_it_listens_on_this_machine_alone(page):
    _, address, _ = page
    port = int(address.rstrip('/').rsplit(':', 1)[1])
    with socket.socket() as other:
        other.settimeout(2)
        # All of 127.0.0.0/8 is this machine; a server on all addresses would answer.
        assert other.connect_ex(('127.0.0.2', port)) != 0


def test_a_port_that_is_taken(make_explorer):
    with socket.socket() as taken:
        taken.bind(('127.0.0.1', 0))
        taken.listen()
        port = taken.getsockname()[1]
        with (
            pytest.raises(OSError, match=str(port)),
            serving(make_explorer('FCN'), 'a model', port=port),
        ):
            pass


def test_text_of_others_is_neither_markdown_nor_html():
    assert plain("it's 100") == "it's 100"
    assert plain('<b>[x](javascript:1)</b>') == '&lt;b&gt;\\[x\\]\\(javascript:1\\)&lt;/b&gt;'
    assert plain('1. street.png') == r'1\. street\.png'  # no list
