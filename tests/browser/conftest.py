import json

import pytest
from selenium import webdriver
from selenium.webdriver.common.by import By
from selenium.webdriver.support.ui import WebDriverWait

SECONDS = 120


class Browser:
    """Debian's Chromium without a window, and what it has to be asked."""

    def __init__(self, width, height):
        options = webdriver.ChromeOptions()
        options.binary_location = '/usr/bin/chromium'
        for argument in ('--headless=new', '--no-sandbox', '--disable-dev-shm-usage'):
            options.add_argument(argument)
        options.set_capability('goog:loggingPrefs', dict(performance='ALL', browser='ALL'))
        service = webdriver.ChromeService('/usr/bin/chromedriver')
        self.driver = webdriver.Chrome(options=options, service=service)
        self.resize(width, height)

    def resize(self, width, height):
        """Give the page another size; a window of Chromium's is never as narrow as a telephone."""
        metrics = dict(width=width, height=height, deviceScaleFactor=1, mobile=False)
        self.driver.execute_cdp_cmd('Emulation.setDeviceMetricsOverride', metrics)

    def find(self, selector):
        """Return the elements of a CSS selector."""
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector):
        """Return the text of the first element of a CSS selector, or an empty one."""
        found = self.find(selector)
        return found[0].text if found else ''

    def wait(self, condition):
        """Wait until a function returns something true, and return that."""
        return WebDriverWait(self.driver, SECONDS, ignored_exceptions=[Exception]).until(
            lambda _: condition()
        )

    def addresses(self):
        """Return the addresses that the page has asked for."""
        events = [
            json.loads(each['message'])['message'] for each in self.driver.get_log('performance')
        ]
        sent = [each for each in events if each['method'] == 'Network.requestWillBeSent']
        return {each['params']['request']['url'] for each in sent}

    def errors(self):
        """Return the errors that the page has logged."""
        return [each for each in self.driver.get_log('browser') if each['level'] == 'SEVERE']


@pytest.fixture(params=[(1600, 1000), (420, 900)], ids=['wide', 'narrow'])
def browser(request):
    browser = Browser(*request.param)
    yield browser
    browser.driver.quit()
